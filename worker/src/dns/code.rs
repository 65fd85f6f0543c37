//! Check codes: every possible result of a check, with its state and the sentence for the customer.

use dezky_shared::domain::check::CheckState;

/// Declares [`Code`]: the wire name, the state, and the sentence.
macro_rules! codes {
    ($($code:ident $name:literal $state:ident $sentence:literal)*) => {
        /// The reason for a check's state. Names are stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $sentence] $code,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$code),*];

            /// The name used in documents and on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$code => $name),* }
            }

            /// The state of a check with this code.
            pub const fn state(self) -> CheckState {
                match self { $(Self::$code => CheckState::$state),* }
            }

            /// The sentence for the customer.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$code => $sentence),* }
            }
        }
    };
}

codes! {
    Timeout "timeout" Unknown "The DNS did not answer in time. We check again soon."
    Unreachable "unreachable" Unknown "A DNS resolver could not be reached. We check again soon."
    ServerFailure "servfail" Unknown "The name servers of this domain fail to answer. If this lasts, ask your DNS provider."
    DnssecBogus "dnssec_bogus" Unknown "DNSSEC validation fails for this domain, so many receivers see none of its records. Ask your DNS provider."
    Refused "refused" Unknown "The name servers refuse queries for this domain. Check at your registrar which name servers are set."
    Truncated "truncated" Unknown "The DNS response is too large. Remove records that are no longer needed."
    Lame "lame" Unknown "The name servers set for this domain do not serve it. Check at your registrar which name servers are set."
    Malformed "malformed" Unknown "A DNS resolver returned an error. We check again soon."
    Propagating "propagating" Unknown "DNS resolvers disagree: a change is still propagating. We check again soon."
    CnameLoop "cname_loop" Invalid "The CNAME records form a loop or a chain that is too long. Point the record directly at its target."

    OwnershipOk "ownership_ok" Ok "The verification record is in place."
    OwnershipMissing "ownership_missing" Missing "Add the TXT record shown to verify that you own this domain."
    OwnershipOtherToken "ownership_other_token" Mismatch "There is a verification record with another value. Add the one shown."

    MxOk "mx_ok" Ok "Mail for this domain is delivered to us."
    MxMissing "mx_missing" Missing "There is no MX record, so mail is not delivered. Add the records shown."
    MxNull "mx_null" Mismatch "The MX record states that this domain accepts no mail. Replace it with the records shown."
    MxNullWithOthers "mx_null_with_others" Invalid "There is a null MX record (\"0 .\") beside others. Remove it."
    MxAddress "mx_address" Invalid "An MX record contains an IP address instead of a host name. Replace it with the records shown."
    MxCname "mx_cname" Invalid "An MX record points to an alias (CNAME), which is not allowed. Use the hosts shown."
    MxUnresolvable "mx_unresolvable" Invalid "An MX record points to a host that does not exist. Use the hosts shown."
    MxElsewhere "mx_elsewhere" Mismatch "Mail for this domain is delivered elsewhere. Replace the MX records with those shown."
    MxIncomplete "mx_incomplete" Warning "Some MX records are missing. Add all those shown."
    MxForeignExtra "mx_foreign_extra" Warning "Some mail is delivered to servers that are not ours. Remove the other MX records."
    MxForeignFirst "mx_foreign_first" Warning "Servers that are not ours have priority and receive the mail. Remove the other MX records."

    SpfOk "spf_ok" Ok "We are authorized to send mail for this domain."
    SpfMissing "spf_missing" Missing "There is no SPF record. Add the TXT record shown."
    SpfMultiple "spf_multiple" Invalid "There are several SPF records, so receivers ignore all of them. Merge them into one."
    SpfSyntax "spf_syntax" Invalid "The SPF record has a syntax error, so receivers ignore it."
    SpfTooManyLookups "spf_too_many_lookups" Invalid "The SPF record needs more than 10 DNS lookups, so receivers ignore it. Remove terms that are no longer needed."
    SpfTooManyVoidLookups "spf_too_many_void_lookups" Invalid "The SPF record refers to more than 2 names that do not exist, so receivers ignore it. Remove them."
    SpfTooManyMx "spf_too_many_mx" Invalid "The SPF record authorizes the MX hosts of a domain that has more than 10, so receivers ignore it."
    SpfLoop "spf_loop" Invalid "The SPF record includes itself, so receivers ignore it."
    SpfIncludeBroken "spf_include_broken" Invalid "The SPF record includes a domain without exactly one valid SPF record, so receivers ignore it. Remove the include."
    SpfTemperror "spf_temperror" Unknown "A name in the SPF record could not be looked up. We check again soon."
    SpfNotAuthorised "spf_not_authorised" Mismatch "The SPF record does not authorize all of our servers. Publish the record shown, or add its mechanism before any that excludes us. If it uses mx, correct the MX records first."
    SpfPerMessage "spf_per_message" Unknown "Whether the SPF record authorizes us depends on the sender address or the host name of each message, so it cannot be verified."
    SpfSendersUnresolved "spf_senders_unresolved" Unknown "The addresses of our mail servers could not be determined. We check again soon."
    SpfPassAll "spf_pass_all" Warning "The SPF record authorizes any server to send as this domain. Remove what matches every address, such as +all or a /0 prefix."
    SpfPtr "spf_ptr" Warning "The SPF record uses ptr, which many receivers ignore. Remove it."

    DkimOk "dkim_ok" Ok "The signing key is published."
    DkimMissing "dkim_missing" Missing "The signing key is not published. Add the record shown."
    DkimMultiple "dkim_multiple" Invalid "There are several records at the name of the key, so receivers ignore them. Keep only the one shown."
    DkimSyntax "dkim_syntax" Invalid "The key record has a syntax error. Replace it with the one shown."
    DkimVersion "dkim_version" Invalid "The key record has to begin with v=DKIM1. Replace it with the one shown."
    DkimRevoked "dkim_revoked" Invalid "The key record revokes the key. Replace it with the one shown."
    DkimKeyType "dkim_key_type" Mismatch "The key record is for another type of key. Replace it with the one shown."
    DkimKeyMalformed "dkim_key_malformed" Invalid "The key in the record is damaged, perhaps truncated. Replace it with the one shown."
    DkimKeyDiffers "dkim_key_differs" Mismatch "The record contains another key. Replace it with the one shown."
    DkimHash "dkim_hash" Invalid "The key record does not allow SHA-256, which we sign with. Replace it with the one shown."
    DkimService "dkim_service" Invalid "The key record is not for mail. Replace it with the one shown."
    DkimTesting "dkim_testing" Warning "The key record is in test mode (t=y), so receivers may ignore it. Remove t=y."

    DmarcOk "dmarc_ok" Ok "The DMARC policy is in place."
    DmarcInherited "dmarc_inherited" Ok "The DMARC policy of the parent domain applies, and is strict enough."
    DmarcMissing "dmarc_missing" Missing "There is no DMARC record. Add the TXT record shown."
    DmarcMultiple "dmarc_multiple" Invalid "There are several DMARC records, so receivers ignore them. Keep only the one shown."
    DmarcPolicyInvalid "dmarc_policy_invalid" Invalid "The DMARC record has an invalid policy (p=, sp= or np=), so receivers ignore it. Replace it with the one shown."
    DmarcWeakerPolicy "dmarc_weaker_policy" Mismatch "The DMARC policy that receivers apply is weaker than the one chosen. Replace the record with the one shown."
    DmarcWeakerSubdomains "dmarc_weaker_subdomains" Warning "The DMARC policy for subdomains (sp= or np=) is weaker than the one chosen."
    DmarcPartial "dmarc_partial" Warning "The DMARC policy applies to part of the mail only (pct=). Remove pct=."
    DmarcTesting "dmarc_testing" Warning "The DMARC policy is in test mode (t=y), so receivers apply a weaker one. Remove t=y."
    DmarcRuaMissing "dmarc_rua_missing" Warning "The DMARC record does not send reports to the chosen address. Add it to rua=."
    DmarcRuaInvalid "dmarc_rua_invalid" Warning "The DMARC record has a report destination that is not an address. Write rua=mailto:name@domain."
    DmarcRuaNotAuthorised "dmarc_rua_not_authorised" Warning "DMARC reports are addressed to a domain that has not agreed to receive them, so they are not sent."

    MtaStsOk "mta_sts_ok" Ok "Encryption of incoming mail is announced (MTA-STS)."
    MtaStsMissing "mta_sts_missing" Missing "Encryption of incoming mail is not announced (MTA-STS). Add the records shown."
    MtaStsElsewhere "mta_sts_elsewhere" Mismatch "The host of the MTA-STS policy is not ours. Point it at the target shown."
    MtaStsMultiple "mta_sts_multiple" Invalid "There are several MTA-STS records, so senders ignore them. Keep only the one shown."
    MtaStsSyntax "mta_sts_syntax" Invalid "The MTA-STS record has a syntax error. Replace it with the one shown."
    MtaStsIdDiffers "mta_sts_id_differs" Warning "The MTA-STS record has an outdated id, so senders may use an outdated policy. Replace it with the one shown."

    TlsRptOk "tls_rpt_ok" Ok "Reports about encryption are requested (TLS-RPT)."
    TlsRptMissing "tls_rpt_missing" Missing "Reports about encryption are not requested (TLS-RPT). Add the record shown."
    TlsRptMultiple "tls_rpt_multiple" Invalid "There are several TLS-RPT records, so senders ignore them. Keep only the one shown."
    TlsRptSyntax "tls_rpt_syntax" Invalid "The TLS-RPT record has a syntax error. Replace it with the one shown."
    TlsRptElsewhere "tls_rpt_elsewhere" Warning "Reports about encryption are sent to another address than the one shown."

    AutoconfigOk "autoconfig_ok" Ok "Mail clients find their settings."
    AutoconfigMissing "autoconfig_missing" Missing "Mail clients do not find their settings. Add the records shown."
    AutoconfigElsewhere "autoconfig_elsewhere" Mismatch "Mail clients get their settings from another server. Change the records to those shown."
    AutodiscoverOk "autodiscover_ok" Ok "Outlook finds its settings."
    AutodiscoverMissing "autodiscover_missing" Missing "Outlook does not find its settings. Add the records shown."
    AutodiscoverElsewhere "autodiscover_elsewhere" Mismatch "Outlook gets its settings from another server. Change the records to those shown."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = Code::ALL.iter().map(|code| code.name()).collect();

        assert_eq!(names.len(), Code::ALL.len());
    }

    #[test]
    fn the_documentation_lists_every_code_with_its_state_and_sentence() {
        let documentation = include_str!("../../../.ops/dns-codes.md");

        for code in Code::ALL {
            let (name, state) = (code.name(), code.state().name());
            let row = format!("| `{name}` | {state} | {} |", code.sentence());
            assert!(documentation.contains(&row), "{row}");
        }
    }
}
