//! How a tenant wants its people to sign in.

use std::{collections::BTreeSet, fmt::Display, net::IpAddr};

use dezky_shared::security_policy::MfaMode;
use ipnet::IpNet;

use super::{Validator, Violation, word};
use crate::error::FieldError;

/// The shortest that a session can be, in minutes.
pub const SHORTEST_SESSION: i64 = 5;
/// The longest: 30 days.
pub const LONGEST_SESSION: i64 = 43_200;

/// Whether a second factor is asked for.
pub fn mfa_mode(text: &str) -> Result<MfaMode, Violation> {
    word(text, "invalid_mfa_mode", "off, optional or required")
}

/// How long a session can be, in minutes.
pub fn minutes(minutes: i64) -> Result<i32, Violation> {
    let in_range = (SHORTEST_SESSION..=LONGEST_SESSION).contains(&minutes);
    i32::try_from(minutes)
        .ok()
        .filter(|_| in_range)
        .ok_or_else(|| {
            let message = format!("This is {SHORTEST_SESSION} to {LONGEST_SESSION} minutes.");
            ("out_of_range", message)
        })
}

/// A network in CIDR form, with the address that is the network's own. An address alone is the network of itself.
pub fn network(text: &str) -> Result<String, Violation> {
    let invalid = || {
        let message = "A network is written 192.0.2.0/24 or 2001:db8::/32.";
        ("invalid_network", message.to_owned())
    };
    let (address, prefix) = match text.split_once('/') {
        None => (text, None),
        Some((address, prefix)) => (address, Some(prefix)),
    };
    let address: IpAddr = address.parse().map_err(|_| invalid())?;
    let mapped = match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => address.to_ipv4_mapped(),
    };
    if mapped.is_some() {
        let message = "An IPv4 network is written as one: 192.0.2.0/24.";
        return Err(("invalid_network", message.to_owned()));
    }
    let network = match prefix {
        None => IpNet::from(address),
        Some(prefix) if prefix.bytes().all(|byte| byte.is_ascii_digit()) => {
            let prefix = prefix.parse().map_err(|_| invalid())?;
            IpNet::new(address, prefix).map_err(|_| invalid())?
        }
        Some(_) => return Err(invalid()),
    };
    if network.trunc() != network {
        let message = format!(
            "{network} is an address in a network: say {} for all of it, or the address alone.",
            network.trunc()
        );
        return Err(("not_a_network", message));
    }
    Ok(network.to_string())
}

/// A list of at most `most` different values, each of which `value` takes.
pub fn distinct_list<T: Ord + Clone + Display>(
    checks: &mut Validator,
    pointer: &str,
    texts: &[String],
    most: usize,
    value: impl Fn(&str) -> Result<T, Violation>,
) -> Option<Vec<T>> {
    if texts.len() > most {
        let message = format!("This has at most {most} entries.");
        checks.note(FieldError::at(pointer, "too_many", message));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut values = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let once = value(text).and_then(|value| {
            if seen.insert(value.clone()) {
                Ok(value)
            } else {
                Err(("duplicate", format!("{value} is given twice.")))
            }
        });
        values.extend(checks.check(&format!("{pointer}/{index}"), once));
    }
    (values.len() == texts.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_network_is_written_with_its_own_address() {
        for (text, kept) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap(), kept, "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, code) in [
            ("192.0.2.7/24", "not_a_network"),
            ("2001:db8::1/32", "not_a_network"),
            ("192.0.2.0/33", "invalid_network"),
            ("192.0.2.0/-1", "invalid_network"),
            ("192.0.2.0/+24", "invalid_network"),
            ("192.0.2.0/", "invalid_network"),
            ("192.0.2.0/24/24", "invalid_network"),
            ("192.0.2/24", "invalid_network"),
            ("192.0.02.0/24", "invalid_network"),
            ("192.0.2.0 /24", "invalid_network"),
            ("::ffff:192.0.2.0/120", "invalid_network"),
            ("fe80::1%eth0", "invalid_network"),
            ("example.com", "invalid_network"),
            ("", "invalid_network"),
        ] {
            assert_eq!(network(text).unwrap_err().0, code, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_of_a_network_is_taken_as_it_is(address: IpAddr, prefix in 0_u8..=128) {
            for text in [address.to_string(), format!("{address}/{prefix}")] {
                if let Ok(kept) = network(&text) {
                    prop_assert_eq!(network(&kept), Ok(kept.clone()));
                }
            }
        }

        #[test]
        fn nothing_that_is_typed_does_harm(text in ".*") {
            let _ = network(&text);
        }
    }

    #[test]
    fn a_list_names_what_is_wrong_and_what_is_given_twice() {
        let mut checks = Validator::default();
        let texts = ["192.0.2.7", "x", "192.0.2.7/32"].map(str::to_owned);

        let list = distinct_list(&mut checks, "/ipAllowlist", &texts, 3, network);

        let errors = checks.finish(list).unwrap_err();
        let found: Vec<_> = errors
            .iter()
            .map(|error| (error.pointer.as_deref().unwrap(), error.code.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("/ipAllowlist/1", "invalid_network"),
                ("/ipAllowlist/2", "duplicate"),
            ]
        );
    }
}
