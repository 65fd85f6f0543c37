//! Which resolvers are asked, and for how long.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use dezky_shared::platform::config::{list, seconds};

/// Whom a domain's public DNS is asked of.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Every one of them is asked everything.
    pub resolvers: Vec<ResolverAddress>,
    /// How long one look at a domain may take, with all its questions.
    pub timeout: Duration,
}

impl DnsConfig {
    /// Reads `DNS_RESOLVERS` and `DNS_TIMEOUT_SECONDS`.
    pub fn from_env() -> anyhow::Result<Self> {
        let mut names = list("DNS_RESOLVERS")?;
        if names.is_empty() {
            names = DEFAULT_RESOLVERS.map(str::to_owned).to_vec();
        }
        let resolvers = names
            .iter()
            .map(|name| name.parse())
            .collect::<Result<_, String>>()
            .map_err(|error| anyhow::anyhow!("DNS_RESOLVERS is not valid: {error}"))?;
        let timeout = seconds("DNS_TIMEOUT_SECONDS", DEFAULT_TIMEOUT)?;
        anyhow::ensure!(
            (Duration::from_millis(100)..=Duration::from_mins(1)).contains(&timeout),
            "DNS_TIMEOUT_SECONDS is not valid: expected 0.1 to 60"
        );
        Ok(Self { resolvers, timeout })
    }
}

const DEFAULT_RESOLVERS: [&str; 2] = ["1.1.1.1:53", "8.8.8.8:53"];
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a resolver is, and how to speak to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverAddress {
    /// As it was configured, by which people know it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// How.
    pub transport: Transport,
}

/// How to speak to a resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By UDP, and by TCP where an answer does not fit.
    Plain,
    /// DNS over TLS (RFC 7858), with the name in its certificate.
    Tls(Arc<str>),
    /// DNS over HTTPS (RFC 8484), with the name in its certificate and the path.
    Https(Arc<str>, Arc<str>),
}

impl FromStr for ResolverAddress {
    type Err = String;

    /// `1.1.1.1:53`, `tls://one.one.one.one@1.1.1.1:853` or `https://one.one.one.one@1.1.1.1:443/dns-query`.
    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| {
            text.parse()
                .map_err(|_| format!("{text:?} is not an address and port such as 1.1.1.1:53"))
        };
        let named = |text: &str| match text.split_once('@') {
            Some((host, at)) if !host.is_empty() => Ok((Arc::from(host), address(at)?)),
            _ => Err(format!(
                "{text:?} is not the name in a certificate, @, address and port"
            )),
        };
        let (address, transport) = if let Some(rest) = text.strip_prefix("tls://") {
            let (host, address) = named(rest)?;
            (address, Transport::Tls(host))
        } else if let Some(rest) = text.strip_prefix("https://") {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, "dns-query"));
            let (host, address) = named(authority)?;
            (address, Transport::Https(host, format!("/{path}").into()))
        } else {
            (address(text)?, Transport::Plain)
        };
        Ok(Self {
            name: text.to_owned(),
            address,
            transport,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_given_by_its_transport_and_address() {
        let transport = |text: &str| text.parse::<ResolverAddress>().map(|it| it.transport);

        assert_eq!(transport("1.1.1.1:53"), Ok(Transport::Plain));
        assert_eq!(transport("[2606:4700::1]:53"), Ok(Transport::Plain));
        assert_eq!(
            transport("tls://dns.test@1.1.1.1:853"),
            Ok(Transport::Tls("dns.test".into()))
        );
        assert_eq!(
            transport("https://dns.test@1.1.1.1:443/resolve"),
            Ok(Transport::Https("dns.test".into(), "/resolve".into()))
        );
        assert_eq!(
            transport("https://dns.test@1.1.1.1:443"),
            Ok(Transport::Https("dns.test".into(), "/dns-query".into()))
        );
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "1.1.1.1",
            "dns.test:53",
            "tls://1.1.1.1:853",
            "https://@1.1.1.1:443",
            "udp://1.1.1.1:53",
        ] {
            assert!(text.parse::<ResolverAddress>().is_err(), "{text}");
        }
    }
}
