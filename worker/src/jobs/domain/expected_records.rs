//! Expected DNS records of a domain: those of the mail server's zone file, with the configured SPF and DMARC.

use dezky_shared::domain::{
    Dmarc,
    check::{CheckKind, Record},
};
use dezky_upstreams::clients::stalwart::zone;

/// The expected records of `domain`. Records that no check covers are left out.
pub(super) fn records(
    domain: &str,
    zone_file: &str,
    dmarc: &Dmarc,
    spf_include: Option<&str>,
) -> Vec<Record> {
    let mut records: Vec<Record> = zone::records(zone_file)
        .into_iter()
        .filter_map(|mut record| {
            let check = check_for(domain, &record)?;
            match (check, spf_include) {
                (CheckKind::Spf, Some(include)) => {
                    record.value = format!("v=spf1 include:{include} -all");
                }
                (CheckKind::Dmarc, _) => record.value = dmarc_record(dmarc),
                _ => {}
            }
            record.check = Some(check);
            Some(record)
        })
        .collect();
    // Sorted, so that a different order in the zone file is not a change.
    records.sort_by(|a, b| (a.check, &a.name, &a.value).cmp(&(b.check, &b.name, &b.value)));
    records
}

fn check_for(domain: &str, record: &Record) -> Option<CheckKind> {
    let below = record.name.strip_suffix(domain)?;
    match (below, record.kind.as_str()) {
        ("", "MX") => Some(CheckKind::Mx),
        ("", "TXT") if record.value.starts_with("v=spf1") => Some(CheckKind::Spf),
        ("_dmarc.", "TXT") => Some(CheckKind::Dmarc),
        ("_mta-sts.", "TXT") | ("mta-sts.", "CNAME") => Some(CheckKind::MtaSts),
        ("_smtp._tls.", "TXT") => Some(CheckKind::TlsRpt),
        ("autoconfig.", "CNAME") => Some(CheckKind::Autoconfig),
        ("autodiscover.", "CNAME") => Some(CheckKind::Autodiscover),
        (key, "TXT") if key.ends_with("._domainkey.") => Some(CheckKind::Dkim),
        _ => None,
    }
}

fn dmarc_record(dmarc: &Dmarc) -> String {
    let policy = format!("v=DMARC1; p={}", dmarc.policy.name());
    match &dmarc.rua {
        Some(address) => format!("{policy}; rua=mailto:{address}"),
        None => policy,
    }
}

#[cfg(test)]
mod tests {
    use dezky_shared::domain::DmarcPolicy;

    use super::*;

    const ZONE: &str = "v1-ed25519._domainkey.acme.test. IN TXT \"v=DKIM1; k=ed25519; p=AA\"\n\
        acme.test. IN TXT \"v=spf1 mx -all\"\n\
        mail.acme.test. IN TXT \"v=spf1 a -all\"\n\
        acme.test. IN MX 10 mail.provider.test.\n\
        _dmarc.acme.test. IN TXT \"v=DMARC1; p=reject; rua=mailto:postmaster@acme.test\"\n\
        _imaps._tcp.acme.test. IN SRV 0 1 993 mail.provider.test.\n\
        mta-sts.acme.test. IN CNAME mail.provider.test.\n\
        _mta-sts.acme.test. IN TXT \"v=STSv1; id=44\"\n\
        _smtp._tls.acme.test. IN TXT \"v=TLSRPTv1; rua=mailto:postmaster@acme.test\"\n\
        autoconfig.acme.test. IN CNAME mail.provider.test.\n\
        autodiscover.acme.test. IN CNAME mail.provider.test.\n";

    fn described(dmarc: &Dmarc, spf_include: Option<&str>) -> Vec<String> {
        records("acme.test", ZONE, dmarc, spf_include)
            .into_iter()
            .map(|record| {
                let check = record.check.unwrap().name();
                format!("{check}: {} {} {}", record.name, record.kind, record.value)
            })
            .collect()
    }

    #[test]
    fn every_expected_record_belongs_to_a_check() {
        assert_eq!(
            described(&Dmarc::default(), None),
            [
                "mx: acme.test MX 10 mail.provider.test",
                "spf: acme.test TXT v=spf1 mx -all",
                "dkim: v1-ed25519._domainkey.acme.test TXT v=DKIM1; k=ed25519; p=AA",
                "dmarc: _dmarc.acme.test TXT v=DMARC1; p=none",
                "mta_sts: _mta-sts.acme.test TXT v=STSv1; id=44",
                "mta_sts: mta-sts.acme.test CNAME mail.provider.test",
                "tls_rpt: _smtp._tls.acme.test TXT v=TLSRPTv1; rua=mailto:postmaster@acme.test",
                "autoconfig: autoconfig.acme.test CNAME mail.provider.test",
                "autodiscover: autodiscover.acme.test CNAME mail.provider.test",
            ]
        );
    }

    #[test]
    fn configured_spf_and_dmarc_replace_those_of_the_zone_file() {
        let dmarc = Dmarc {
            policy: DmarcPolicy::Quarantine,
            rua: Some("dmarc@acme.test".to_owned()),
        };

        let described = described(&dmarc, Some("spf.provider.test"));

        assert!(
            described
                .contains(&"spf: acme.test TXT v=spf1 include:spf.provider.test -all".to_owned())
        );
        assert!(
            described.contains(
                &"dmarc: _dmarc.acme.test TXT v=DMARC1; p=quarantine; rua=mailto:dmarc@acme.test"
                    .to_owned()
            )
        );
    }
}
