//! The public key of one selector (RFC 6376, section 3.6.1; RFC 8463).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use dezky_shared::domain::check::Record;

use super::{
    code::Code,
    finding::{Finding, Seen},
    resolver::{RecordType, Resolver},
    tags::{Tags, is_space},
};

pub(super) async fn check(resolver: &impl Resolver, expected: &Record) -> Finding {
    let mut seen = Seen::default();
    let answer = match resolver.lookup(&expected.name, RecordType::TXT).await {
        Ok(answer) => answer,
        Err(failure) => return seen.fails(failure),
    };
    seen.add(&expected.name, &answer);
    let mut texts = answer.texts();
    let code = match (texts.next(), texts.next()) {
        (None, _) => Code::DkimMissing,
        (Some(text), None) => compare(text, &expected.value),
        // What receivers do then is undefined (section 3.6.2.2).
        (Some(_), Some(_)) => Code::DkimMultiple,
    };
    seen.says(code)
}

fn compare(found: &str, expected: &str) -> Code {
    let Some(found) = Tags::strict(found) else {
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
    let ours = Tags::lenient(expected);
    if kind(&found) != kind(&ours) {
        return Code::DkimKeyType;
    }
    let Some(key) = bytes(key) else {
        return Code::DkimKeyMalformed;
    };
    if ours.get("p").and_then(bytes) != Some(key) {
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

fn kind<'a>(tags: &Tags<'a>) -> &'a str {
    tags.get("k").unwrap_or("rsa")
}

/// The key, however its text is folded.
fn bytes(key: &str) -> Option<Vec<u8>> {
    let key: String = key.chars().filter(|&it| !is_space(it)).collect();
    STANDARD.decode(key).ok()
}

/// Whether a list between colons holds any of these; a missing list holds everything.
fn lists(list: Option<&str>, any: &[&str]) -> bool {
    list.is_none_or(|list| {
        list.split(':')
            .any(|item| any.contains(&item.trim_matches(is_space)))
    })
}
