//! All simulators together, as the `dezky-sim` server runs them.

use std::{net::IpAddr, net::SocketAddr, sync::Arc};

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
};

/// Where each of them listens.
#[derive(Debug, Clone, Copy, Args)]
pub struct Addresses {
    /// The address that all listen on.
    #[arg(long, default_value = "127.0.0.1")]
    pub host: IpAddr,
    /// The port from which all this is controlled.
    #[arg(long, default_value_t = 3900)]
    pub control_port: u16,
    /// The port of the OIDC issuer.
    #[arg(long, default_value_t = 3901)]
    pub issuer_port: u16,
    /// The port of the Authentik simulator.
    #[arg(long, default_value_t = 3902)]
    pub authentik_port: u16,
    /// The port of the Stalwart simulator.
    #[arg(long, default_value_t = 3903)]
    pub stalwart_port: u16,
    /// The port of the oCIS simulator.
    #[arg(long, default_value_t = 3904)]
    pub ocis_port: u16,
    /// The port of the simulated DNS, for UDP and TCP.
    #[arg(long, default_value_t = 3907)]
    pub dns_port: u16,
}

impl Addresses {
    /// The address of one of them.
    pub fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.host, port)
    }
}

/// All simulators, running.
#[derive(Debug)]
pub struct Simulators {
    /// Who issues tokens.
    pub issuer: Arc<Issuer>,
    /// The public DNS.
    pub dns: DnsSim,
    all: Vec<Simulated>,
}

/// What can be watched and disturbed of one simulator.
pub struct Simulated {
    /// What it is called in URLs.
    pub name: &'static str,
    /// Where it listens.
    pub url: String,
    /// What goes wrong there.
    pub faults: Faults,
    /// What happened there.
    pub effects: Effects,
    state: Box<dyn Fn() -> Value + Send + Sync>,
}

impl Simulators {
    /// Starts all of them.
    pub async fn start(addresses: &Addresses, options: IssuerOptions) -> anyhow::Result<Self> {
        let issuer = Issuer::start_with(addresses.at(addresses.issuer_port), options).await?;
        let issuer = Arc::new(issuer);
        let authentik =
            Arc::new(AuthentikSim::start(addresses.at(addresses.authentik_port)).await?);
        // As in an installation that somebody has set up.
        authentik.set_recovery_flow(true);
        let stalwart = Arc::new(StalwartSim::start(addresses.at(addresses.stalwart_port)).await?);
        let ocis = Arc::new(OcisSim::start(addresses.at(addresses.ocis_port)).await?);
        let dns = DnsSim::start(addresses.at(addresses.dns_port)).await?;
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
        ];
        Ok(Self { issuer, dns, all })
    }

    /// The simulator of this name.
    pub fn find(&self, name: &str) -> Option<&Simulated> {
        self.all.iter().find(|simulated| simulated.name == name)
    }

    /// Every simulator.
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

    /// All that it holds, without secrets.
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
