//! Signature of a webhook: `t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>">`, with a `v1` for each secret in use.

use aws_lc_rs::{constant_time::verify_slices_are_equal, hmac};

/// Maximum difference between the time of a signature and ours, in seconds. A repeated delivery is signed anew.
const TOLERANCE: u64 = 300;

/// Whether one of `keys` made a signature in `header` of `body`, not too long before or after `now` (seconds).
pub(super) fn is_valid(header: &str, body: &[u8], keys: &[hmac::Key], now: i64) -> bool {
    let of = |name: &str| {
        let parts = header.split(',').filter_map(|part| part.split_once('='));
        let name = name.to_owned();
        parts.filter_map(move |(key, value)| (key == name).then_some(value))
    };
    let Some(seconds) = of("t").next() else {
        return false;
    };
    let is_recent = |seconds: i64| now.abs_diff(seconds) <= TOLERANCE;
    if !seconds.parse().is_ok_and(is_recent) {
        return false;
    }
    let tags: Vec<Vec<u8>> = of("v1").filter_map(bytes).collect();
    // The body is hashed once for each key: a forged header has room for a thousand signatures.
    keys.iter().any(|key| {
        let expected = signature(key, seconds, body);
        let is_it = |tag: &Vec<u8>| verify_slices_are_equal(expected.as_ref(), tag).is_ok();
        tags.iter().any(is_it)
    })
}

/// The signature of `body` at this time.
fn signature(key: &hmac::Key, seconds: &str, body: &[u8]) -> hmac::Tag {
    let mut signed = hmac::Context::with_key(key);
    signed.update(seconds.as_bytes());
    signed.update(b".");
    signed.update(body);
    signed.sign()
}

/// The bytes of a hexadecimal signature.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    const DIGITS: usize = 64;
    if hex.len() != DIGITS || !hex.is_ascii() {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..DIGITS).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vectors {
        secret: String,
        payload: String,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        name: String,
        now: i64,
        header: String,
        payload: Option<String>,
        accepted: bool,
    }

    /// The vectors were made with Stripe's own library.
    #[test]
    fn every_vector_is_accepted_or_refused_as_expected() {
        let vectors: Vectors = serde_json::from_str(include_str!(
            "../../../../shared/sim/tests/fixtures/stripe/signatures.json"
        ))
        .unwrap();
        let key = |secret: &str| hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let keys = [key("whsec_current"), key(&vectors.secret)];

        for case in &vectors.cases {
            let payload = case.payload.as_ref().unwrap_or(&vectors.payload);

            let found = is_valid(&case.header, payload.as_bytes(), &keys, case.now);

            assert_eq!(found, case.accepted, "{}", case.name);
        }
        let valid = &vectors.cases[0];
        let body = vectors.payload.as_bytes();
        assert!(!is_valid(&valid.header, body, &keys[..1], valid.now));
        assert!(!is_valid(&valid.header, body, &[], valid.now));
    }

    #[test]
    fn a_valid_signature_is_found_among_forged_ones() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"whsec_current");
        let keys = [key.clone()];
        let body = b"{}";
        let tag = signature(&key, "1000", body);
        let valid = tag.as_ref().iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        let forged = format!("t=1000{}", format!(",v1={}", "0".repeat(64)).repeat(900));

        assert!(!is_valid(&forged, body, &keys, 1_000));
        assert!(is_valid(
            &format!("{forged},v1={valid}"),
            body,
            &keys,
            1_000
        ));
    }
}
