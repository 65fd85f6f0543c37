//! DKIM check: the public key of one selector (RFC 6376, section 3.6.1; RFC 8463).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dezky_shared::domain::check::Record;

use super::{
    code::Code,
    evidence::{Evidence, Finding},
    near_miss::Format,
    resolver::{RecordType, Resolver},
    tags::{Tags, is_space},
};

const FORMAT: Format = Format {
    beginning: "v=DKIM1;",
    accepts: |text| Tags::dmarc(text).begins_with("DKIM1"),
};

pub(super) async fn check(resolver: &impl Resolver, domain: &str, expected: &Record) -> Finding {
    let mut evidence = Evidence::default();
    let answer = match resolver.lookup(&expected.name, RecordType::TXT).await {
        Ok(answer) => answer,
        Err(failure) => return evidence.conclude_failure(failure),
    };
    // A wildcard answers with records of other kinds where there is no key.
    if !answer.texts().any(is_key) {
        evidence.add_texts(&expected.name, &answer, is_key);
        let place = (expected.name.as_str(), domain);
        FORMAT
            .explain_missing(resolver, place, &answer, &mut evidence)
            .await;
        return evidence.conclude(Code::DkimMissing);
    }
    evidence.add(&expected.name, &answer);
    let mut texts = answer.texts();
    let code = match (texts.next(), texts.next()) {
        (Some(text), None) => compare(text, &expected.value),
        // The result is undefined (RFC 6376, section 3.6.2.2).
        _ => Code::DkimMultiple,
    };
    evidence.conclude(code)
}

/// Whether a text is meant to be a key, as opposed to a record of another service.
fn is_key(text: &str) -> bool {
    let tags = Tags::dmarc(text);
    if let Some(version) = tags.get("v").filter(|_| tags.first_name() != Some("p")) {
        let prefix = version.get(..4);
        return prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case("DKIM"));
    }
    let (word, has_value) = match text.split_once('=') {
        Some((word, _)) => (word.trim_matches(is_space), true),
        None => (text, false),
    };
    let is_tag = matches!(word, "g" | "h" | "k" | "n" | "s" | "t");
    let is_base64 = word.len() > 40
        && word
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"+/".contains(&it));
    tags.get("p").is_some() || is_tag || is_base64 || !has_value
}

fn compare(found: &str, expected: &str) -> Code {
    let Some(found) = Tags::dkim(found) else {
        return Code::DkimSyntax;
    };
    if found.get("v").is_some() && !found.begins_with("DKIM1") {
        return Code::DkimVersion;
    }
    let Some(key) = found.get("p") else {
        return Code::DkimSyntax;
    };
    if key.is_empty() {
        return Code::DkimRevoked;
    }
    let ours = Tags::dmarc(expected);
    if key_type(&found) != key_type(&ours) {
        return Code::DkimKeyType;
    }
    let Some(key) = decode(key) else {
        return Code::DkimKeyMalformed;
    };
    if ours.get("p").and_then(decode) != Some(key) {
        return Code::DkimKeyDiffers;
    }
    if !lists(found.get("h"), &["sha256"]) {
        return Code::DkimHash;
    }
    if !lists(found.get("s"), &["*", "email"]) {
        return Code::DkimService;
    }
    if found
        .get("t")
        .is_some_and(|flags| lists(Some(flags), &["y"]))
    {
        return Code::DkimTesting;
    }
    Code::DkimOk
}

fn key_type<'a>(tags: &Tags<'a>) -> &'a str {
    tags.get("k").unwrap_or("rsa")
}

/// Decodes a key, ignoring folding white space.
fn decode(key: &str) -> Option<Vec<u8>> {
    let key: String = key.chars().filter(|&it| !is_space(it)).collect();
    STANDARD.decode(key).ok()
}

/// Whether a colon-separated list contains one of these items. A missing list contains every item.
fn lists(list: Option<&str>, any: &[&str]) -> bool {
    list.is_none_or(|list| {
        list.split(':')
            .any(|item| any.contains(&item.trim_matches(is_space)))
    })
}
