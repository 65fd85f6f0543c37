//! Client address behind reverse proxies.
//!
//! A client can send any `X-Forwarded-For`. Each proxy appends the address of its peer at the right, so the header is
//! read from the right, and only as long as the entries come from trusted proxies.

use std::net::IpAddr;

use anyhow::{Context as _, ensure};
use dezky_shared::platform::config::list;
use http::HeaderMap;
use ipnet::IpNet;

/// Header with the addresses that a request was forwarded for.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Trusted reverse proxies.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Reads `TRUSTED_PROXIES`.
    pub fn from_env() -> anyhow::Result<Self> {
        Self::new(&list("TRUSTED_PROXIES")?)
    }

    /// Parses networks and single addresses.
    pub fn new(networks: &[impl AsRef<str>]) -> anyhow::Result<Self> {
        let networks = networks.iter().map(|text| network(text.as_ref()));
        networks.collect::<anyhow::Result<_>>().map(Self)
    }

    /// Client address of a request received from `peer`: the last hop that is not a trusted proxy.
    pub(crate) fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut origin = peer.to_canonical();
        // Bytes, from the right: the part that a client sent may not be valid UTF-8.
        let values = headers.get_all(FORWARDED_FOR).into_iter().rev();
        let hops = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops {
            if !self.contains(origin) {
                break;
            }
            let Some(previous) = str::from_utf8(hop).ok().and_then(address) else {
                break;
            };
            origin = previous;
        }
        origin
    }

    /// Whether this address is a trusted proxy.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Parses a network or a single address.
fn network(text: &str) -> anyhow::Result<IpNet> {
    let one = |_| text.parse::<IpAddr>().map(IpNet::from);
    let network = text.parse::<IpNet>().or_else(one).with_context(|| {
        format!(
            "TRUSTED_PROXIES is not valid: expected networks such as 10.0.0.0/8, found {text:?}"
        )
    })?;
    ensure!(
        network.prefix_len() > 0,
        "TRUSTED_PROXIES is not valid: {text} is every address, so that any client could claim to be another"
    );
    Ok(network)
}

/// Address of a hop. Some proxies append the port.
fn address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let with_port = || Some(hop.parse::<std::net::SocketAddr>().ok()?.ip());
    let address = hop.parse().ok().or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn origin(peer: &str, forwarded_for: &[&str]) -> String {
        let proxies = TrustedProxies::new(&["10.0.0.0/8", "fd00::/8", "192.0.2.7"]).unwrap();
        let mut headers = HeaderMap::new();
        for value in forwarded_for {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(FORWARDED_FOR, value);
        }
        let peer = peer.parse().unwrap();
        proxies.origin(peer, &headers).to_string()
    }

    #[test]
    fn forwarded_for_is_trusted_only_from_known_proxies() {
        let cases: [(&str, &[&str], &str); 17] = [
            ("203.0.113.1", &[], "203.0.113.1"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:10.1.2.3", &["203.0.113.9"], "203.0.113.9"),
            ("fd00::1", &["2001:db8::9"], "2001:db8::9"),
            // The peer is not a trusted proxy.
            ("203.0.113.1", &["198.51.100.1"], "203.0.113.1"),
            // The entry of the client is left of the entry of the proxy.
            ("10.1.2.3", &["127.0.0.1, 203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["127.0.0.1", "203.0.113.9"], "203.0.113.9"),
            // Two proxies.
            (
                "192.0.2.7",
                &["198.51.100.1, 203.0.113.9, 10.9.9.9"],
                "203.0.113.9",
            ),
            ("10.1.2.3", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
            ("10.1.2.3", &["203.0.113.9:4711"], "203.0.113.9"),
            ("10.1.2.3", &["[2001:db8::9]:4711"], "2001:db8::9"),
            ("10.1.2.3", &["naïve, 203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["naïve", "203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", &["203.0.113.9, naïve"], "10.1.2.3"),
            ("10.1.2.3", &["unknown"], "10.1.2.3"),
            ("10.1.2.3", &["203.0.113.9, nonsense"], "10.1.2.3"),
        ];

        for (peer, forwarded_for, expected) in cases {
            assert_eq!(
                origin(peer, forwarded_for),
                expected,
                "{peer} {forwarded_for:?}"
            );
        }
    }

    #[test]
    fn invalid_networks_are_rejected() {
        for text in [
            "",
            "10.0.0.0/33",
            "proxy.example",
            "10.0.0",
            "0.0.0.0/0",
            "::/0",
        ] {
            assert!(network(text).is_err(), "{text:?}");
        }
    }
}
