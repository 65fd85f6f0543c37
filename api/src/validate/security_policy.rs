//! Fields of a security policy.

use std::net::IpAddr;

use dezky_shared::security_policy::MfaMode;
use ipnet::IpNet;

use super::{Violation, word};

/// Minimum session length, in minutes.
pub const MIN_SESSION: i64 = 5;
/// Maximum session length, in minutes: 30 days.
pub const MAX_SESSION: i64 = 43_200;

/// A mode of multi-factor authentication.
pub fn mfa_mode(text: &str) -> Result<MfaMode, Violation> {
    word(text, "invalid_mfa_mode", "off, optional or required")
}

/// A session length, in minutes.
pub fn minutes(minutes: i64) -> Result<i32, Violation> {
    let in_range = (MIN_SESSION..=MAX_SESSION).contains(&minutes);
    i32::try_from(minutes)
        .ok()
        .filter(|_| in_range)
        .ok_or_else(|| {
            let message = format!("Must be {MIN_SESSION}–{MAX_SESSION} minutes.");
            ("out_of_range", message)
        })
}

/// A network in CIDR notation without host bits. A single address is a network of one.
pub fn network(text: &str) -> Result<String, Violation> {
    let invalid = || {
        let message = "Must be a network in CIDR notation, such as 192.0.2.0/24 or 2001:db8::/32.";
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
        let message = "Use IPv4 notation for IPv4 networks: 192.0.2.0/24.";
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
            "{network} has host bits set. Use {} for the network, or the address without a prefix length.",
            network.trunc()
        );
        return Err(("not_a_network", message));
    }
    Ok(network.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn networks_are_normalized() {
        for (text, normalized) in [
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/32", "192.0.2.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8:0::/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap(), normalized, "{text}");
        }
    }

    #[test]
    fn invalid_networks_are_rejected() {
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
        fn normalization_of_a_network_is_idempotent(address: IpAddr, prefix in 0_u8..=128) {
            for text in [address.to_string(), format!("{address}/{prefix}")] {
                if let Ok(kept) = network(&text) {
                    prop_assert_eq!(network(&kept), Ok(kept.clone()));
                }
            }
        }

        #[test]
        fn parsing_never_panics(text in ".*") {
            let _ = network(&text);
        }
    }
}
