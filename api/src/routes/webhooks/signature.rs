//! Signature of a webhook: `t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>">`, with a `v1` for each secret in use.

use aws_lc_rs::hmac;

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
    let mut signed = Vec::with_capacity(seconds.len() + 1 + body.len());
    signed.extend_from_slice(seconds.as_bytes());
    signed.push(b'.');
    signed.extend_from_slice(body);
    of("v1").filter_map(bytes).any(|tag| {
        // In constant time.
        let is_ours = |key: &hmac::Key| hmac::verify(key, &signed, &tag).is_ok();
        keys.iter().any(is_ours)
    })
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
}
