//! DNS simulator: a server that answers like a recursive resolver without a cache, over UDP and TCP, with fault injection.
//! Several instances simulate resolvers that disagree.

mod handler;
mod records;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use dezky_shared::domain::check::Record;
use hickory_proto::rr::{self, Name, RecordType};
use hickory_server::Server;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};

use self::{handler::Handler, records::Records};

/// A fault of a DNS server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsFault {
    /// SERVFAIL.
    ServerFailure,
    /// SERVFAIL for the first so many queries for a name and type.
    ServerFailureFirst(usize),
    /// SERVFAIL unless the query disables DNSSEC validation. The zone has a DS record.
    Bogus,
    /// REFUSED.
    Refused,
    /// FORMERR.
    FormatError,
    /// FORMERR for queries with EDNS.
    RefusesEdns,
    /// No response.
    Silence,
    /// A response delayed by so many milliseconds.
    Delay(u64),
    /// A referral from a server that does not serve the zone.
    Lame,
    /// An empty response of a server that is neither authoritative nor recursive.
    Clueless,
    /// A negative response without a SOA record.
    NoSoa,
    /// Every record twice.
    Duplicates,
    /// A truncated response, over TCP too.
    Truncated,
}

/// The queries that a fault applies to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsFaultRule {
    /// The queried name. Any name if missing.
    #[serde(default)]
    pub name: Option<String>,
    /// The queried type. Any type if missing.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// The fault.
    pub fault: DnsFault,
}

/// A received query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, lower case, no trailing dot.
    pub name: String,
    /// The type.
    pub kind: RecordType,
    /// Received over TCP.
    pub tcp: bool,
}

#[derive(Debug, Default)]
struct State {
    records: Records,
    faults: Vec<DnsFaultRule>,
    /// Responses have the AD flag.
    signed: bool,
    questions: Vec<Question>,
}

/// A running DNS server. It stops when dropped.
pub struct DnsSim {
    /// The address of both sockets.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: Server<Handler>,
}

impl std::fmt::Debug for DnsSim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DnsSim")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl DnsSim {
    /// Starts a server on UDP and TCP. Port 0 selects a port that is free for both.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let (listener, socket) = loop {
            let listener = TcpListener::bind(address).await?;
            match UdpSocket::bind(listener.local_addr()?).await {
                Ok(socket) => break (listener, socket),
                Err(_) if address.port() == 0 => {}
                Err(error) => return Err(error),
            }
        };
        let address = socket.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
        let mut server = Server::new(Handler(state.clone()));
        server.register_socket(socket);
        server.register_listener(listener, Duration::from_secs(5), 16);
        Ok(Self {
            address,
            state,
            _server: server,
        })
    }

    /// Adds a record.
    pub fn add(&self, name: &str, kind: &str, value: &str) -> anyhow::Result<()> {
        let record = records::parse(name, kind, value)?;
        self.lock().records.add(record);
        Ok(())
    }

    /// Adds a record without validation.
    pub fn add_raw(&self, record: rr::Record) {
        self.lock().records.add(record);
    }

    /// Adds the records that do not exist yet.
    pub fn publish(&self, records: &[Record]) -> anyhow::Result<()> {
        for record in records {
            let record = records::parse(&record.name, &record.kind, &record.value)?;
            self.lock().records.add(record);
        }
        Ok(())
    }

    /// Removes the records that exist.
    pub fn unpublish(&self, records: &[Record]) -> anyhow::Result<()> {
        for record in records {
            let record = records::parse(&record.name, &record.kind, &record.value)?;
            self.lock().records.remove_record(&record);
        }
        Ok(())
    }

    /// Removes the records of a name, of one type or all.
    pub fn remove(&self, name: &str, kind: Option<&str>) -> anyhow::Result<()> {
        let name = Name::from_ascii(name)?;
        let kind = kind.map(str::parse).transpose()?;
        self.lock().records.remove(&name, kind);
        Ok(())
    }

    /// All records.
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.all()
    }

    /// Adds a fault. Of several matching rules the latest applies.
    pub fn fail(&self, rule: DnsFaultRule) {
        self.lock().faults.push(rule);
    }

    /// Removes all faults.
    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    /// Sets the AD flag of all responses from now on.
    pub fn sign(&self) {
        self.lock().signed = true;
    }

    /// The queries received so far.
    pub fn questions(&self) -> Vec<Question> {
        self.lock().questions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
