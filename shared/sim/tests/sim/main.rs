//! The simulators held to what the upstreams really do, and the clients against the simulators.

mod authentik;
