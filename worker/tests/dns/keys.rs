//! Public keys in base64.

/// An RSA key of 2048 bits, which does not fit in one string of a TXT record.
pub(crate) const RSA: &str = "grcO7n8aUDm+8H7CNH8GbtCPXcdRJEfjQEMAAmtuVFWUoGVoXWTEmAu41FRKhyGpmgGtIZ61nPahXvbxWh2DC7fOCda7wATnF1xkPH3ssLWA7De8lxLdLmquuUuujS+fopxaKEye91IYKc8QebCA6ddKHBD8q2pCQ9M2Vt6+TB7XlkjoVuj5ovWMlfDOSznBW/+tXC37i7ggthGcuo/4h5auWwXygKaM7ZO2soyw0bNY5rqrSFVlufSQKNVX15qKDmRR4VxwXBXxc1QbRDiiXPdjEtTus8IkaHm/ALPPjtE6vxKaMJetlrRC1tG970hQw/RlRC6zAMM3pkimwNvdc/yV9cLEUYWa/oDUCqOd+5JJ9Aw+432WFEXIBvWMfPISffqJT5KW";
/// Another RSA key.
pub(crate) const OTHER_RSA: &str = "Ad2S8Z9JVPT+qU7ZGCN1iCsgDarbI8/5GT8+cDhEleBMXV7TUiJtFjfCJI8dPMxEBd0uofr6tL8cRpZNlHCGIHiCkUR4vujHW0MJrisSLj/oesfs9aU3D8QbTdtyOyr7bEfAtXiUqrLFwUW3l925Em5cyiAxEhBfZ2QU+vayANrwmdul7uwzYk9RJL/F8E2COI5SkngQ9hCwvKEeC+nxTzymleh6UxFmDHYozbqfXu+5kCLvU3tZahbcigPsH+fSVhcRszAkefsv8Rt8Gf7LHhiC0OScGhNjW85gdyugNyxSJm0I4bf52MBDBp3lcjtHn/cshs6gQ0Ip8X0r232NH/x/GGaSvzIk16DCAJJDDuJJCRjaiTbDQqQhnFZGhv6lkhEgDg4+";
/// An Ed25519 key.
pub(crate) const ED25519: &str = "/PM8CECZkKyXDe2zuEMSAYHpN2EH29r2xfPIZJfuIZs=";
