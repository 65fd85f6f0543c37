//! The stable names of everything that a look can come to, with its state and what a customer reads.

use dezky_shared::domain::check::CheckState;

/// Declares [`Code`]: the name on the wire, the state that goes with it, and the sentence.
macro_rules! codes {
    ($($code:ident $name:literal $state:ident $sentence:literal)*) => {
        /// Why a check is in its state. Names are stable.
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

            /// The state that it means.
            pub const fn state(self) -> CheckState {
                match self { $(Self::$code => CheckState::$state),* }
            }

            /// What a customer is told.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$code => $sentence),* }
            }
        }
    };
}

codes! {
    Timeout "timeout" Unknown "The DNS did not answer in time. We ask again soon."
    Unreachable "unreachable" Unknown "A DNS resolver could not be reached. We ask again soon."
    ServerFailure "servfail" Unknown "The name servers of this domain fail to answer. If this lasts, ask your DNS provider."
    DnssecBogus "dnssec_bogus" Unknown "The DNSSEC signatures of this domain are wrong, so many receivers see nothing of it. Ask your DNS provider."
    Refused "refused" Unknown "The name servers refuse to answer for this domain. Check at your registrar which name servers are set."
    Truncated "truncated" Unknown "The answer is too large to be delivered. Remove records that are no longer needed."
    Lame "lame" Unknown "The name servers set for this domain do not know it. Check at your registrar which name servers are set."
    Malformed "malformed" Unknown "The name servers of this domain answer with errors. If this lasts, ask your DNS provider."
    Propagating "propagating" Unknown "Resolvers disagree: a change is still spreading. We ask again soon."
    CnameLoop "cname_loop" Invalid "The CNAME records here lead back to themselves or too far. Point the record straight at its target."

    OwnershipOk "ownership_ok" Ok "The verification record is in place."
    OwnershipMissing "ownership_missing" Missing "Add the TXT record shown to prove that this domain is yours."
    OwnershipOtherToken "ownership_other_token" Mismatch "There is a verification record with another value. Add the one shown."

    MxOk "mx_ok" Ok "Mail for this domain comes to us."
    MxMissing "mx_missing" Missing "There is no MX record, so mail does not arrive. Add those shown."
    MxNull "mx_null" Mismatch "The MX record says that this domain takes no mail. Replace it with those shown."
    MxNullWithOthers "mx_null_with_others" Invalid "An MX record that says no mail is taken stands beside others. Remove it."
    MxAddress "mx_address" Invalid "An MX record names an IP address; it has to name a host. Replace it with those shown."
    MxCname "mx_cname" Invalid "An MX record names an alias (CNAME), which is not allowed. Use the hosts shown."
    MxUnresolvable "mx_unresolvable" Invalid "An MX record names a host that does not exist. Use the hosts shown."
    MxElsewhere "mx_elsewhere" Mismatch "Mail for this domain goes elsewhere. Replace the MX records with those shown."
    MxIncomplete "mx_incomplete" Warning "Some of the MX records are missing. Add all those shown."
    MxForeignExtra "mx_foreign_extra" Warning "Some mail goes to servers that are not ours. Remove the other MX records."
    MxForeignFirst "mx_foreign_first" Warning "Servers that are not ours come first and take the mail. Remove the other MX records."

    SpfOk "spf_ok" Ok "We may send mail for this domain."
    SpfMissing "spf_missing" Missing "There is no SPF record. Add the TXT record shown."
    SpfMultiple "spf_multiple" Invalid "There are several SPF records, so receivers ignore them all. Merge them into one."
    SpfSyntax "spf_syntax" Invalid "The SPF record has an error, so receivers ignore it."
    SpfTooManyLookups "spf_too_many_lookups" Invalid "The SPF record takes more than 10 DNS lookups, so receivers ignore it. Remove what is no longer needed."
    SpfTooManyVoidLookups "spf_too_many_void_lookups" Invalid "The SPF record names more than 2 hosts that do not exist, so receivers ignore it. Remove them."
    SpfTooManyMx "spf_too_many_mx" Invalid "The SPF record allows the mail servers of a domain that has more than 10, so receivers ignore it."
    SpfLoop "spf_loop" Invalid "The SPF record includes itself, so receivers ignore it."
    SpfIncludeBroken "spf_include_broken" Invalid "The SPF record includes a domain without exactly one SPF record, so receivers ignore it. Remove it."
    SpfTemperror "spf_temperror" Unknown "A domain that the SPF record includes could not be looked up. We ask again soon."
    SpfNotAuthorised "spf_not_authorised" Mismatch "The SPF record does not allow us to send. Add what is shown to it."
    SpfPassAll "spf_pass_all" Warning "The SPF record allows everybody to send as this domain. Change +all to -all."
    SpfPtr "spf_ptr" Warning "The SPF record uses ptr, which many receivers ignore. Remove it."

    DkimOk "dkim_ok" Ok "The signing key is published."
    DkimMissing "dkim_missing" Missing "The signing key is not published. Add the record shown."
    DkimMultiple "dkim_multiple" Invalid "There are several records under the key's name, so receivers ignore them. Keep the one shown."
    DkimSyntax "dkim_syntax" Invalid "The key record has an error. Replace it with the one shown."
    DkimVersion "dkim_version" Invalid "The key record has to begin with v=DKIM1. Replace it with the one shown."
    DkimRevoked "dkim_revoked" Invalid "The key record says that the key is revoked. Replace it with the one shown."
    DkimKeyType "dkim_key_type" Mismatch "The key record is for another kind of key. Replace it with the one shown."
    DkimKeyMalformed "dkim_key_malformed" Invalid "The key in the record is damaged, perhaps cut off. Replace it with the one shown."
    DkimKeyDiffers "dkim_key_differs" Mismatch "The record holds another key. Replace it with the one shown."
    DkimHash "dkim_hash" Invalid "The key record does not allow SHA-256, which we sign with. Replace it with the one shown."
    DkimService "dkim_service" Invalid "The key record is not for mail. Replace it with the one shown."
    DkimTesting "dkim_testing" Warning "The key record says that signing is only tested (t=y), so receivers may ignore it. Remove t=y."

    DmarcOk "dmarc_ok" Ok "The DMARC policy is in place."
    DmarcInherited "dmarc_inherited" Ok "The DMARC policy of the domain above applies, and is strict enough."
    DmarcMissing "dmarc_missing" Missing "There is no DMARC record. Add the TXT record shown."
    DmarcMultiple "dmarc_multiple" Invalid "There are several DMARC records, so receivers ignore them. Keep the one shown."
    DmarcPolicyInvalid "dmarc_policy_invalid" Invalid "The DMARC record has no valid policy (p=). Replace it with the one shown."
    DmarcWeakerPolicy "dmarc_weaker_policy" Mismatch "The DMARC policy is weaker than the one chosen. Replace it with the one shown."
    DmarcWeakerSubdomains "dmarc_weaker_subdomains" Warning "The DMARC policy for subdomains (sp= or np=) is weaker than the one chosen."
    DmarcPartial "dmarc_partial" Warning "The DMARC policy applies to a part of the mail only (pct=). Remove pct=."
    DmarcTesting "dmarc_testing" Warning "The DMARC policy is only tested (t=y), so receivers treat it as a weaker one. Remove t=y."
    DmarcRuaMissing "dmarc_rua_missing" Warning "The DMARC record does not send reports to the address chosen. Add it to rua=."
    DmarcRuaInvalid "dmarc_rua_invalid" Warning "The DMARC record sends reports to something that is not an address. Write rua=mailto:name@domain."
    DmarcRuaNotAuthorised "dmarc_rua_not_authorised" Warning "DMARC reports go to a domain that has not agreed to take them, so they are not sent."

    MtaStsOk "mta_sts_ok" Ok "Encryption of incoming mail is announced (MTA-STS)."
    MtaStsMissing "mta_sts_missing" Missing "Encryption of incoming mail is not announced (MTA-STS). Add the records shown."
    MtaStsElsewhere "mta_sts_elsewhere" Mismatch "The host of the MTA-STS policy is not ours. Point it at the target shown."
    MtaStsMultiple "mta_sts_multiple" Invalid "There are several MTA-STS records, so senders ignore them. Keep the one shown."
    MtaStsSyntax "mta_sts_syntax" Invalid "The MTA-STS record has an error. Replace it with the one shown."
    MtaStsIdDiffers "mta_sts_id_differs" Warning "The MTA-STS record has an older id, so senders may keep an older policy. Replace it with the one shown."

    TlsRptOk "tls_rpt_ok" Ok "Reports about encryption are asked for (TLS-RPT)."
    TlsRptMissing "tls_rpt_missing" Missing "Reports about encryption are not asked for (TLS-RPT). Add the record shown."
    TlsRptMultiple "tls_rpt_multiple" Invalid "There are several TLS-RPT records, so senders ignore them. Keep the one shown."
    TlsRptSyntax "tls_rpt_syntax" Invalid "The TLS-RPT record has an error. Replace it with the one shown."
    TlsRptElsewhere "tls_rpt_elsewhere" Warning "Reports about encryption go to another address than the one shown."

    AutoconfigOk "autoconfig_ok" Ok "Mail programs find their settings."
    AutoconfigMissing "autoconfig_missing" Missing "Mail programs do not find their settings. Add the records shown."
    AutoconfigElsewhere "autoconfig_elsewhere" Mismatch "Mail programs are sent elsewhere for their settings. Change the records to those shown."
    AutodiscoverOk "autodiscover_ok" Ok "Outlook finds its settings."
    AutodiscoverMissing "autodiscover_missing" Missing "Outlook does not find its settings. Add the records shown."
    AutodiscoverElsewhere "autodiscover_elsewhere" Mismatch "Outlook is sent elsewhere for its settings. Change the records to those shown."
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own() {
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
