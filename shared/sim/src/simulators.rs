//! All simulators, as the `dezky-sim` binary serves them.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use clap::Args;
use serde_json::Value;

use crate::{
    authentik::AuthentikSim,
    callers::Caller,
    dns::DnsSim,
    effects::Effects,
    faults::Faults,
    issuer::{Issuer, IssuerOptions},
    ocis::OcisSim,
    server::Server,
    stalwart::{self, StalwartSim},
    stripe::StripeSim,
};

/// Listen addresses of the simulators.
#[derive(Debug, Clone, Copy, Args)]
pub struct Addresses {
    /// IP address that all listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// Port of the control API.
    #[arg(long, default_value_t = 3900)]
    pub control_port: u16,
    /// Port of the OIDC issuer.
    #[arg(long, default_value_t = 3901)]
    pub issuer_port: u16,
    /// Port of the Authentik simulator.
    #[arg(long, default_value_t = 3902)]
    pub authentik_port: u16,
    /// Port of the Stalwart simulator.
    #[arg(long, default_value_t = 3903)]
    pub stalwart_port: u16,
    /// Port of the oCIS simulator.
    #[arg(long, default_value_t = 3904)]
    pub ocis_port: u16,
    /// Port of the Stripe simulator.
    #[arg(long, default_value_t = 3908)]
    pub stripe_port: u16,
    /// Port of the simulated DNS, UDP and TCP.
    #[arg(long, default_value_t = 3907)]
    pub dns_port: u16,
}

impl Addresses {
    /// Free ports of the loopback interface.
    pub fn free() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            control_port: 0,
            issuer_port: 0,
            authentik_port: 0,
            stalwart_port: 0,
            ocis_port: 0,
            stripe_port: 0,
            dns_port: 0,
        }
    }

    /// Socket address of a port.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }
}

/// All running simulators.
#[derive(Debug)]
pub struct Simulators {
    /// The OIDC issuer.
    pub issuer: Arc<Issuer>,
    /// The identity provider.
    pub authentik: Arc<AuthentikSim>,
    /// The mail server.
    pub stalwart: Arc<StalwartSim>,
    /// File storage.
    pub ocis: Arc<OcisSim>,
    /// The payment provider.
    pub stripe: Arc<StripeSim>,
    /// The simulated DNS.
    pub dns: Arc<DnsSim>,
    all: Vec<Simulated>,
}

/// Handle of one simulator: its state, faults and effects.
pub struct Simulated {
    /// Name in URLs.
    pub name: &'static str,
    /// Base URL.
    pub url: String,
    /// Injected faults.
    pub faults: Faults,
    /// Recorded effects.
    pub effects: Effects,
    state: Box<dyn Fn() -> Value + Send + Sync>,
}

impl Simulators {
    /// Starts all simulators.
    pub async fn start(addresses: &Addresses, options: IssuerOptions) -> anyhow::Result<Self> {
        let issuer = Issuer::start_with(addresses.at(addresses.issuer_port), options).await?;
        let issuer = Arc::new(issuer);
        let authentik =
            Arc::new(AuthentikSim::start(addresses.at(addresses.authentik_port)).await?);
        // The recovery flow exists, unlike in a fresh installation.
        authentik.set_recovery_flow(true);
        let stalwart = Arc::new(StalwartSim::start(addresses.at(addresses.stalwart_port)).await?);
        let ocis = Arc::new(OcisSim::start(addresses.at(addresses.ocis_port)).await?);
        let stripe = Arc::new(StripeSim::start(addresses.at(addresses.stripe_port)).await?);
        let dns = Arc::new(DnsSim::start(addresses.at(addresses.dns_port)).await?);
        dns.add(stalwart::HOST, "A", "192.0.2.25")?;
        for caller in Caller::ALL {
            authentik.add_known_user(&caller.email(), caller.subject());
        }
        let all = vec![
            Simulated::new("issuer", &issuer, |sim| &sim.server, Issuer::snapshot),
            Simulated::new(
                "authentik",
                &authentik,
                |sim| &sim.server,
                AuthentikSim::snapshot,
            ),
            Simulated::new(
                "stalwart",
                &stalwart,
                |sim| &sim.server,
                StalwartSim::snapshot,
            ),
            Simulated::new("ocis", &ocis, |sim| &sim.server, OcisSim::snapshot),
            Simulated::new("stripe", &stripe, |sim| &sim.server, StripeSim::snapshot),
        ];
        Ok(Self {
            issuer,
            authentik,
            stalwart,
            ocis,
            stripe,
            dns,
            all,
        })
    }

    /// Finds a simulator by name.
    pub fn find(&self, name: &str) -> Option<&Simulated> {
        self.all.iter().find(|simulated| simulated.name == name)
    }

    /// All simulators.
    pub fn all(&self) -> &[Simulated] {
        &self.all
    }
}

impl Simulated {
    fn new<S: Send + Sync + 'static>(
        name: &'static str,
        simulator: &Arc<S>,
        server: fn(&S) -> &Server,
        snapshot: fn(&S) -> Value,
    ) -> Self {
        let Server {
            url,
            faults,
            effects,
            ..
        } = server(simulator);
        let simulator = simulator.clone();
        Self {
            name,
            url: url.clone(),
            faults: faults.clone(),
            effects: effects.clone(),
            state: Box::new(move || snapshot(&simulator)),
        }
    }

    /// The whole state, without secrets.
    pub fn state(&self) -> Value {
        (self.state)()
    }
}

impl std::fmt::Debug for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulated")
            .field("name", &self.name)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
