//! The computed property `dnsZoneFile`.

use std::fmt::Write as _;

use super::properties::{Object, Properties as _};

/// Host of the mail server.
pub const HOST: &str = "mail.provider.test";
/// Maximum length of a string in a TXT record (RFC 1035, section 3.3).
const TXT_STRING: usize = 255;

/// DNS records of `domain`, with those of its `keys`.
pub(super) fn file<'a>(domain: &Object, keys: impl Iterator<Item = &'a Object>) -> String {
    let name = domain.text("name");
    let mut zone = String::new();
    for key in keys {
        let algorithm = match key.text("@type") {
            "Dkim1Ed25519Sha256" => "ed25519",
            _ => "rsa",
        };
        let (selector, public_key) = (key.text("selector"), key.text("publicKey"));
        let value = format!("v=DKIM1; k={algorithm}; h=sha256; p={public_key}");
        let _ = writeln!(
            zone,
            "{selector}._domainkey.{name}. IN TXT {}",
            quoted(&value)
        );
    }
    let reports = match domain.text("reportAddressUri") {
        "" => None,
        uri if uri.contains('@') => Some(uri.to_owned()),
        uri => Some(format!("{uri}@{name}")),
    };
    let _ = writeln!(
        zone,
        "{name}. IN TXT \"v=spf1 mx -all\"\n{name}. IN MX 10 {HOST}."
    );
    if let Some(uri) = &reports {
        let _ = writeln!(
            zone,
            "_dmarc.{name}. IN TXT \"v=DMARC1; p=reject; rua={uri}\""
        );
    }
    for (service, port) in [
        ("caldavs", 443),
        ("carddavs", 443),
        ("imaps", 993),
        ("jmap", 443),
        ("pop3s", 995),
        ("submissions", 465),
    ] {
        let _ = writeln!(zone, "_{service}._tcp.{name}. IN SRV 0 1 {port} {HOST}.");
    }
    let _ = writeln!(
        zone,
        "mta-sts.{name}. IN CNAME {HOST}.\n_mta-sts.{name}. IN TXT \"v=STSv1; id=4420072692601816058\""
    );
    if let Some(uri) = reports {
        let _ = writeln!(zone, "_smtp._tls.{name}. IN TXT \"v=TLSRPTv1; rua={uri}\"");
    }
    let _ = writeln!(
        zone,
        "ua-auto-config.{name}. IN CNAME {HOST}.\n_ua-auto-config.{name}. IN TXT \"v=UAAC1; a=sha256; d=JX9P5QrbnjpjweiBNeR/V/kzdi8mgw++L+s0vma8lhs=\""
    );
    let _ = writeln!(
        zone,
        "autoconfig.{name}. IN CNAME {HOST}.\nautodiscover.{name}. IN CNAME {HOST}."
    );
    zone
}

/// Value of a TXT record: one string, or several in parentheses.
fn quoted(value: &str) -> String {
    if value.len() <= TXT_STRING {
        return format!("\"{value}\"");
    }
    let mut strings = String::new();
    let mut rest = value;
    while !rest.is_empty() {
        let (string, after) = rest.split_at(rest.len().min(TXT_STRING));
        let _ = writeln!(strings, "    \"{string}\"");
        rest = after;
    }
    format!("(\n{strings})")
}
