//! Resolver configuration.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use dezky_shared::platform::config::{list, seconds};

use super::{resolver::normalise, spf};

/// The resolvers for checks of public DNS.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// Every query is sent to each of them.
    pub resolvers: Vec<ResolverAddress>,
    /// Time limit of one check of a domain, all queries included.
    pub timeout: Duration,
}

impl DnsConfig {
    /// The default time limit: the least that receivers allow for SPF alone (RFC 7208, section 4.6.4).
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

    /// Reads `DNS_RESOLVERS` and `DNS_TIMEOUT_SECONDS`.
    pub fn from_env() -> anyhow::Result<Self> {
        let mut names = list("DNS_RESOLVERS")?;
        if names.is_empty() {
            names = DEFAULT_RESOLVERS.map(str::to_owned).to_vec();
        }
        let resolvers = parse_resolvers(&names)
            .map_err(|error| anyhow::anyhow!("DNS_RESOLVERS is not valid: {error}"))?;
        let timeout = seconds("DNS_TIMEOUT_SECONDS", Self::DEFAULT_TIMEOUT, 0.1..=60.0)?;
        Ok(Self { resolvers, timeout })
    }
}

/// Parses the resolvers. The same one twice would confirm its own answers.
fn parse_resolvers(names: &[String]) -> Result<Vec<ResolverAddress>, String> {
    let mut resolvers: Vec<ResolverAddress> = Vec::new();
    for name in names {
        let resolver: ResolverAddress = name.parse()?;
        if resolvers
            .iter()
            .any(|other| other.address == resolver.address)
        {
            return Err(format!("{} is listed twice", resolver.address));
        }
        resolvers.push(resolver);
    }
    if resolvers.len() > MAX_RESOLVERS {
        return Err(format!("expected at most {MAX_RESOLVERS} resolvers"));
    }
    Ok(resolvers)
}

/// Parses `MAIL_SPF_INCLUDE`: a bare domain name, which customers publish as `include:<domain>`.
pub fn parse_spf_include(value: &str) -> anyhow::Result<String> {
    let name = normalise(value);
    // The characters that DNS providers accept everywhere; the grammar of SPF allows more, and macros.
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|it| it.is_ascii_alphanumeric() || it == b'-' || it == b'_')
    };
    let is_domain = name.len() <= 253 && name.contains('.') && name.split('.').all(is_label);
    let is_domain = is_domain && spf::is_domain_spec(&name);
    anyhow::ensure!(
        is_domain,
        "MAIL_SPF_INCLUDE is not valid: {value:?} is not a domain name such as spf.example.com"
    );
    Ok(name)
}

/// Maximum number of resolvers: each receives every query.
const MAX_RESOLVERS: usize = 8;

const DEFAULT_RESOLVERS: [&str; 2] = ["1.1.1.1:53", "8.8.8.8:53"];

/// The address of a resolver, and its transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverAddress {
    /// The configured text, which identifies the resolver to operators.
    pub name: String,
    /// IP address and port.
    pub address: SocketAddr,
    /// The protocol.
    pub transport: Transport,
}

/// The protocol of a resolver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// UDP, with TCP for truncated answers.
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
        let (address, transport): (SocketAddr, Transport) =
            if let Some(rest) = text.strip_prefix("tls://") {
                let (host, address) = named(rest)?;
                (address, Transport::Tls(host))
            } else if let Some(rest) = text.strip_prefix("https://") {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, "dns-query"));
                let (host, address) = named(authority)?;
                (address, Transport::Https(host, format!("/{path}").into()))
            } else {
                (address(text)?, Transport::Plain)
            };
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(format!("{text:?} is not the address of a host"));
        }
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
    fn a_resolver_address_includes_its_transport() {
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
    fn an_invalid_resolver_address_is_rejected() {
        for text in [
            "1.1.1.1",
            "dns.test:53",
            "tls://1.1.1.1:853",
            "https://@1.1.1.1:443",
            "udp://1.1.1.1:53",
            "1.1.1.1:0",
            "0.0.0.0:53",
            "tls://dns.test@[::]:853",
        ] {
            assert!(text.parse::<ResolverAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_resolver_is_listed_once() {
        let parse = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            parse_resolvers(&names).map(|resolvers| resolvers.len())
        };

        assert_eq!(parse(&["1.1.1.1:53", "8.8.8.8:53"]), Ok(2));
        assert!(parse(&["1.1.1.1:53", "1.1.1.1:53"]).is_err());
    }

    #[test]
    fn the_included_spf_domain_is_a_bare_domain_name() {
        assert_eq!(
            parse_spf_include("SPF.Provider.test.").unwrap(),
            "spf.provider.test"
        );
        assert_eq!(
            parse_spf_include("_spf.provider.test").unwrap(),
            "_spf.provider.test"
        );
        for value in [
            "include:spf.provider.test",
            "v=spf1 include:spf.provider.test -all",
            "spf.provider.test -all",
            "https://spf.provider.test",
            "%{d}.provider.test",
            "provider",
            "spf..provider.test",
            "192.0.2.10",
            "spf.example_com",
        ] {
            assert!(parse_spf_include(value).is_err(), "{value}");
        }
    }
}
