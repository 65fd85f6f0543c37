//! What mail works without: MTA-STS, TLS-RPT, and where programs find their settings.

use std::collections::BTreeSet;

use dezky_shared::domain::check::{CheckKind, Record};

use super::{
    code::Code,
    finding::{Finding, Seen},
    resolver::{Answer, Failure, RecordType, Resolver, normalise},
    tags::Tags,
};

/// The codes of one kind.
struct Codes {
    ok: Code,
    missing: Code,
    elsewhere: Code,
}

/// Compares each record; the first that is not in order is what counts.
pub(super) async fn check(
    resolver: &impl Resolver,
    kind: CheckKind,
    expected: &[Record],
) -> Finding {
    let mut seen = Seen::default();
    let codes = codes(kind);
    for record in expected {
        let compared = if record.kind == "CNAME" {
            host(resolver, record, &codes, &mut seen).await
        } else {
            text(resolver, kind, record, &codes, &mut seen).await
        };
        match compared {
            Ok(code) if code == codes.ok => {}
            Ok(code) => return seen.says_about(code, &record.name),
            Err(failure) => return seen.fails(failure),
        }
    }
    seen.says(codes.ok)
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

/// An alias of our host, or what providers make of one that allow none: its addresses.
async fn host(
    resolver: &impl Resolver,
    expected: &Record,
    codes: &Codes,
    seen: &mut Seen,
) -> Result<Code, Failure> {
    let answer = resolver.lookup(&expected.name, RecordType::A).await?;
    seen.add(&expected.name, &answer);
    let target = normalise(&expected.value);
    if answer.aliases.contains(&target) {
        return Ok(codes.ok);
    }
    if answer.aliases.is_empty() && answer.values.is_empty() {
        return Ok(codes.missing);
    }
    let ours = resolver.lookup(&target, RecordType::A).await?;
    let addresses = |answer: &Answer| answer.addresses().collect::<BTreeSet<_>>();
    Ok(
        if !answer.values.is_empty() && addresses(&answer) == addresses(&ours) {
            codes.ok
        } else {
            codes.elsewhere
        },
    )
}

async fn text(
    resolver: &impl Resolver,
    kind: CheckKind,
    expected: &Record,
    codes: &Codes,
    seen: &mut Seen,
) -> Result<Code, Failure> {
    let answer = resolver.lookup(&expected.name, RecordType::TXT).await?;
    seen.add(&expected.name, &answer);
    Ok(match kind {
        CheckKind::MtaSts => match only(&answer, "STSv1") {
            Only::None => codes.missing,
            Only::Several => Code::MtaStsMultiple,
            Only::One(text) => mta_sts(text, &expected.value),
        },
        CheckKind::TlsRpt => match only(&answer, "TLSRPTv1") {
            Only::None => codes.missing,
            Only::Several => Code::TlsRptMultiple,
            Only::One(text) => tls_rpt(text, &expected.value),
        },
        _ if answer.texts().any(|text| text.trim() == expected.value) => codes.ok,
        _ if answer.values.is_empty() => codes.missing,
        _ => codes.elsewhere,
    })
}

/// The records of a version, of which there must be one (RFC 8461, section 3.1; RFC 8460, section 3).
enum Only<'a> {
    None,
    One(&'a str),
    Several,
}

fn only<'a>(answer: &'a Answer, version: &str) -> Only<'a> {
    let mut texts = answer.texts().filter(|text| {
        Tags::lenient(text.split(';').next().unwrap_or_default()).begins_with(version)
    });
    match (texts.next(), texts.next()) {
        (None, _) => Only::None,
        (Some(text), None) => Only::One(text),
        (Some(_), Some(_)) => Only::Several,
    }
}

fn mta_sts(found: &str, expected: &str) -> Code {
    let id = Tags::strict(found).and_then(|tags| tags.get("id"));
    let is_id =
        |id: &&str| (1..=32).contains(&id.len()) && id.bytes().all(|it| it.is_ascii_alphanumeric());
    match id.filter(is_id) {
        None => Code::MtaStsSyntax,
        id if id == Tags::lenient(expected).get("id") => Code::MtaStsOk,
        Some(_) => Code::MtaStsIdDiffers,
    }
}

fn tls_rpt(found: &str, expected: &str) -> Code {
    let reports = |tags: Tags<'_>| -> BTreeSet<String> {
        let uris = tags.get("rua").unwrap_or_default().split(',');
        uris.map(|uri| uri.trim().to_ascii_lowercase()).collect()
    };
    let Some(found) = Tags::strict(found).map(reports) else {
        return Code::TlsRptSyntax;
    };
    let is_uri = |uri: &String| uri.starts_with("mailto:") || uri.starts_with("https://");
    if !found.iter().all(is_uri) {
        return Code::TlsRptSyntax;
    }
    if reports(Tags::lenient(expected)).is_subset(&found) {
        Code::TlsRptOk
    } else {
        Code::TlsRptElsewhere
    }
}
