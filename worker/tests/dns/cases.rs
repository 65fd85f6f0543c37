//! Harness for tables of cases.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use dezky_shared::domain::{
    Dmarc, DmarcPolicy,
    check::{Check, CheckKind, Record},
};
use dezky_sim::dns::DnsSim;
use dezky_worker::dns::{Code, DnsConfig, Expectation, Verifier};

use crate::keys::{ED25519, RSA};

/// The checked domain.
pub(crate) const DOMAIN: &str = "acme.test";

/// Defines one test per case: its name, the published records, and the code of the check.
///
/// Records are `name TYPE value`. The records after `with` are published for every case.
#[macro_export]
macro_rules! cases {
    ($kind:ident, $expectation:expr; $($cases:tt)*) => {
        $crate::cases! { $kind, $expectation, with []; $($cases)* }
    };
    (
        $kind:ident, $expectation:expr, with $common:expr;
        $($name:ident: [$($record:expr),* $(,)?] => $code:ident;)*
    ) => {
        $(
            #[tokio::test]
            async fn $name() {
                let (common, own): (&[&str], &[&str]) = (&$common, &[$($record),*]);
                let records = [common, own].concat();
                let kind = dezky_shared::domain::check::CheckKind::$kind;
                let code = dezky_worker::dns::Code::$code;
                $crate::cases::assert_code(&$expectation, kind, &records, code).await;
            }
        )*
    };
}

/// Publishes the records, checks the domain, and compares the code.
pub(crate) async fn assert_code(
    expectation: &Expectation,
    kind: CheckKind,
    records: &[&str],
    code: Code,
) {
    let dns = serve(records).await;

    let check = look(&[&dns], expectation, kind).await;

    assert_eq!(check.code, code.name(), "{check:#?}");
    assert_eq!(check.state, code.state());
    assert!(
        check.message.starts_with(code.sentence()),
        "{}",
        check.message
    );
}

/// Starts a DNS server with these records.
pub(crate) async fn serve(records: &[&str]) -> DnsSim {
    let dns = DnsSim::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap();
    for record in records {
        let mut parts = record.splitn(3, ' ');
        let mut part = || parts.next().unwrap();
        dns.add(part(), part(), part()).unwrap();
    }
    dns
}

/// A verifier with a generous time limit.
pub(crate) fn verifier(servers: &[&DnsSim]) -> Verifier {
    verifier_within(servers, Duration::from_secs(20))
}

/// A verifier with this time limit.
pub(crate) fn verifier_within(servers: &[&DnsSim], timeout: Duration) -> Verifier {
    let resolvers = servers.iter().map(|dns| dns.address.to_string());
    let config = DnsConfig {
        resolvers: resolvers.map(|it| it.parse().unwrap()).collect(),
        timeout,
    };
    Verifier::new(&config).unwrap()
}

/// Checks the domain and returns the first check of this kind.
pub(crate) async fn look(servers: &[&DnsSim], expectation: &Expectation, kind: CheckKind) -> Check {
    let checks = verifier(servers).verify(expectation).await;
    find(checks, kind)
}

/// The first check of this kind.
pub(crate) fn find(checks: Vec<Check>, kind: CheckKind) -> Check {
    let mut checks = checks.into_iter();
    checks.find(|check| check.kind == kind).unwrap()
}

/// The records that acme.test should have.
pub(crate) fn expectation() -> Expectation {
    let record = |name: &str, kind: &str, value: &str, check| Record {
        name: name.to_owned(),
        kind: kind.to_owned(),
        value: value.to_owned(),
        check: Some(check),
    };
    let rsa = format!("v=DKIM1; k=rsa; h=sha256; p={RSA}");
    let ed25519 = format!("v=DKIM1; k=ed25519; h=sha256; p={ED25519}");
    let host = "mail.provider.test";
    Expectation {
        domain: DOMAIN.to_owned(),
        token: "t0ken".to_owned(),
        records: vec![
            record(DOMAIN, "MX", "10 mail.provider.test", CheckKind::Mx),
            record(DOMAIN, "TXT", "v=spf1 mx -all", CheckKind::Spf),
            record("r1._domainkey.acme.test", "TXT", &rsa, CheckKind::Dkim),
            record("e1._domainkey.acme.test", "TXT", &ed25519, CheckKind::Dkim),
            record(
                "_dmarc.acme.test",
                "TXT",
                "v=DMARC1; p=quarantine",
                CheckKind::Dmarc,
            ),
            record(
                "_mta-sts.acme.test",
                "TXT",
                "v=STSv1; id=42",
                CheckKind::MtaSts,
            ),
            record("mta-sts.acme.test", "CNAME", host, CheckKind::MtaSts),
            record(
                "_smtp._tls.acme.test",
                "TXT",
                "v=TLSRPTv1; rua=mailto:reports@acme.test",
                CheckKind::TlsRpt,
            ),
            record("autoconfig.acme.test", "CNAME", host, CheckKind::Autoconfig),
            record(
                "autodiscover.acme.test",
                "CNAME",
                host,
                CheckKind::Autodiscover,
            ),
        ],
        dmarc: Dmarc {
            policy: DmarcPolicy::Quarantine,
            rua: None,
        },
        spf_include: None,
    }
}

/// All records of acme.test in order.
pub(crate) fn published() -> Vec<String> {
    let records = expectation().records;
    let records = records
        .iter()
        .map(|it| format!("{} {} {}", it.name, it.kind, it.value));
    let own = "_dezky.acme.test TXT dezky-verification=t0ken".to_owned();
    let host = "mail.provider.test A 192.0.2.25".to_owned();
    records.chain([own, host]).collect()
}

/// Starts a DNS server on which every check succeeds.
pub(crate) async fn serve_published() -> DnsSim {
    let records = published();
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    serve(&records).await
}
