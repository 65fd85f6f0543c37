//! Checks of optional records, which mail works without: MTA-STS, TLS-RPT, autoconfig and Autodiscover.

use std::{collections::BTreeSet, net::IpAddr};

use dezky_shared::domain::check::{CheckKind, Record};

use super::{
    code::Code,
    evidence::{Evidence, Finding},
    near_miss::Format,
    report_uri::Mailbox,
    resolver::{Answer, Failure, RecordType, Resolver, normalise},
    tags::{Tags, is_space},
};

const MTA_STS: Format = Format {
    beginning: "v=STSv1;",
    accepts: |text| has_version(text, "v=STSv1"),
};
const TLS_RPT: Format = Format {
    beginning: "v=TLSRPTv1;",
    accepts: |text| has_version(text, "v=TLSRPTv1"),
};

/// The codes of one kind of check.
struct Codes {
    ok: Code,
    missing: Code,
    elsewhere: Code,
}

/// Checks each expected record. The first record that is not in order decides.
pub(super) async fn check(
    resolver: &impl Resolver,
    domain: &str,
    kind: CheckKind,
    expected: &[Record],
) -> Finding {
    let mut evidence = Evidence::default();
    let codes = codes(kind);
    for record in expected {
        let code = if record.kind == "CNAME" {
            host(resolver, record, &codes, &mut evidence).await
        } else {
            text(resolver, domain, kind, record, &codes, &mut evidence).await
        };
        match code {
            Ok(code) if code == codes.ok => {}
            Ok(code) => return evidence.conclude_about(code, &record.name),
            Err(failure) => return evidence.conclude_failure(failure),
        }
    }
    evidence.conclude(codes.ok)
}

fn codes(kind: CheckKind) -> Codes {
    match kind {
        CheckKind::MtaSts => Codes {
            ok: Code::MtaStsOk,
            missing: Code::MtaStsMissing,
            elsewhere: Code::MtaStsElsewhere,
        },
        CheckKind::TlsRpt => Codes {
            ok: Code::TlsRptOk,
            missing: Code::TlsRptMissing,
            elsewhere: Code::TlsRptElsewhere,
        },
        CheckKind::Autodiscover => Codes {
            ok: Code::AutodiscoverOk,
            missing: Code::AutodiscoverMissing,
            elsewhere: Code::AutodiscoverElsewhere,
        },
        _ => Codes {
            ok: Code::AutoconfigOk,
            missing: Code::AutoconfigMissing,
            elsewhere: Code::AutoconfigElsewhere,
        },
    }
}

/// Checks an alias of our host. Some DNS providers replace it by the host's addresses (flattening), of one or both
/// families.
async fn host(
    resolver: &impl Resolver,
    expected: &Record,
    codes: &Codes,
    evidence: &mut Evidence,
) -> Result<Code, Failure> {
    let target = normalise(&expected.value);
    let mut is_there = false;
    let mut is_ours = true;
    for kind in [RecordType::A, RecordType::AAAA] {
        let answer = resolver.lookup(&expected.name, kind).await?;
        evidence.add(&expected.name, &answer);
        if answer.aliases.contains(&target) {
            return Ok(codes.ok);
        }
        is_there |= !answer.aliases.is_empty() || !answer.values.is_empty();
        if !answer.values.is_empty() {
            let ours = resolver.lookup(&target, kind).await?;
            is_ours &= addresses(&answer) == addresses(&ours);
            continue;
        }
        is_ours &= answer.aliases.is_empty();
    }
    Ok(match (is_there, is_ours) {
        (false, _) => codes.missing,
        (true, true) => codes.ok,
        (true, false) => codes.elsewhere,
    })
}

fn addresses(answer: &Answer) -> BTreeSet<IpAddr> {
    answer.addresses().collect()
}

async fn text(
    resolver: &impl Resolver,
    domain: &str,
    kind: CheckKind,
    expected: &Record,
    codes: &Codes,
    evidence: &mut Evidence,
) -> Result<Code, Failure> {
    let answer = resolver.lookup(&expected.name, RecordType::TXT).await?;
    evidence.add(&expected.name, &answer);
    let format = match kind {
        CheckKind::MtaSts => MTA_STS,
        CheckKind::TlsRpt => TLS_RPT,
        _ if answer.texts().any(|text| text.trim() == expected.value) => return Ok(codes.ok),
        _ if answer.values.is_empty() => return Ok(codes.missing),
        _ => return Ok(codes.elsewhere),
    };
    // Receivers discard records of another version, and all records if there are several.
    let mut texts = answer.texts().filter(|text| (format.accepts)(text));
    Ok(match (texts.next(), texts.next(), kind) {
        (None, _, _) => {
            let place = (expected.name.as_str(), domain);
            format
                .explain_missing(resolver, place, &answer, evidence)
                .await;
            codes.missing
        }
        (Some(_), Some(_), CheckKind::MtaSts) => Code::MtaStsMultiple,
        (Some(_), Some(_), _) => Code::TlsRptMultiple,
        (Some(text), None, CheckKind::MtaSts) => mta_sts(text, &expected.value),
        (Some(text), None, _) => tls_rpt(text, &expected.value),
    })
}

/// Whether a text begins with exactly this version tag (RFC 8461, section 3.1; RFC 8460, section 3).
fn has_version(text: &str, version: &str) -> bool {
    text.strip_prefix(version).is_some_and(|rest| {
        let rest = rest.trim_start_matches(is_space);
        rest.is_empty() || rest.starts_with(';')
    })
}

fn mta_sts(found: &str, expected: &str) -> Code {
    let id = |text| Tags::smtp_tls(text).and_then(|tags| tags.get("id"));
    let is_valid =
        |id: &&str| (1..=32).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_alphanumeric());
    match id(found).filter(is_valid) {
        None => Code::MtaStsSyntax,
        found if found == id(expected) => Code::MtaStsOk,
        Some(_) => Code::MtaStsIdDiffers,
    }
}

fn tls_rpt(found: &str, expected: &str) -> Code {
    let (Some(found), Some(expected)) = (report_uris(found), report_uris(expected)) else {
        return Code::TlsRptSyntax;
    };
    if expected.is_subset(&found) {
        Code::TlsRptOk
    } else {
        Code::TlsRptElsewhere
    }
}

/// The report addresses of a TLS-RPT record in canonical form; `None` if one of them is invalid.
fn report_uris(text: &str) -> Option<BTreeSet<String>> {
    let uris = Tags::smtp_tls(text)?.get("rua")?.split(',');
    uris.map(|uri| {
        let uri = uri.trim_matches(is_space);
        let scheme = uri.split_once(':')?.0.to_ascii_lowercase();
        match scheme.as_str() {
            "mailto" => Mailbox::of_uri(uri).map(|mailbox| mailbox.address),
            "https" => Some(uri.to_ascii_lowercase()),
            _ => None,
        }
    })
    .collect()
}
