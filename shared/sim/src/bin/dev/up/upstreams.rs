//! Upstreams of the worker: simulated, unless the environment names a real one.

use dezky_shared::platform::config;
use dezky_upstreams::clients::simulated;

/// The worker's variables for an upstream.
struct Upstream {
    name: &'static str,
    url: &'static str,
    /// Path below the simulator's base URL.
    path: &'static str,
    /// Credentials that the simulator accepts.
    credentials: &'static [(&'static str, &'static str)],
}

/// Sorted by the simulators' ports.
const UPSTREAMS: [Upstream; 4] = [
    Upstream {
        name: "Authentik",
        url: "AUTHENTIK_API_URL",
        path: "/api/v3",
        credentials: &[("AUTHENTIK_API_TOKEN", simulated::AUTHENTIK_TOKEN)],
    },
    Upstream {
        name: "Stalwart",
        url: "STALWART_API_URL",
        path: "",
        credentials: &[("STALWART_API_TOKEN", simulated::STALWART_TOKEN)],
    },
    Upstream {
        name: "oCIS",
        url: "OCIS_API_URL",
        path: "",
        credentials: &[
            ("OCIS_API_USER", "svc-dezky"),
            ("OCIS_API_PASSWORD", simulated::OCIS_PASSWORD),
        ],
    },
    Upstream {
        name: "Stripe",
        url: "STRIPE_API_URL",
        path: "",
        credentials: &[
            ("BILLING_STRIPE_ENABLED", "true"),
            ("STRIPE_SECRET_KEY", simulated::STRIPE_SECRET_KEY),
        ],
    },
];

/// The worker's variables, and the addresses to print.
#[derive(Debug, Default)]
pub(super) struct Upstreams {
    pub(super) environment: Vec<(&'static str, String)>,
    pub(super) shown: Vec<(&'static str, String)>,
}

impl Upstreams {
    /// Variables for simulators at these addresses and the simulated DNS at this port.
    pub(super) fn new(simulators: &[String; 4], dns: u16) -> anyhow::Result<Self> {
        let mut upstreams = Self::default();
        for (upstream, simulator) in UPSTREAMS.iter().zip(simulators) {
            upstreams.add(upstream, simulator)?;
        }
        upstreams.add_dns(dns)?;
        Ok(upstreams)
    }

    fn add_dns(&mut self, port: u16) -> anyhow::Result<()> {
        let shown = if let Some(real) = config::optional::<String>("DNS_RESOLVERS")? {
            format!("{real} (from the environment)")
        } else {
            let simulated = format!("127.0.0.1:{port}");
            self.environment.push(("DNS_RESOLVERS", simulated.clone()));
            format!("{simulated} (simulated)")
        };
        self.shown.push(("DNS", shown));
        Ok(())
    }

    fn add(&mut self, upstream: &Upstream, simulator: &str) -> anyhow::Result<()> {
        if let Some(real) = config::optional::<String>(upstream.url)? {
            // The worker inherits the variable and the credentials.
            self.shown
                .push((upstream.name, format!("{real} (from the environment)")));
            return Ok(());
        }
        let url = format!("{simulator}{}", upstream.path);
        self.shown
            .push((upstream.name, format!("{url} (simulated)")));
        self.environment.push((upstream.url, url));
        let credentials = upstream.credentials.iter();
        self.environment
            .extend(credentials.map(|(name, value)| (*name, (*value).to_owned())));
        Ok(())
    }
}
