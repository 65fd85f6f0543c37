//! A DNS server for what should be public: it answers as a resolver does that has just asked everybody, by UDP and TCP,
//! and goes wrong on demand. Several instances are resolvers that do not agree.

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

/// What goes wrong with a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DnsFault {
    /// SERVFAIL.
    ServerFailure,
    /// SERVFAIL, unless the question says that signatures need not be checked.
    Bogus,
    /// REFUSED.
    Refused,
    /// FORMERR.
    FormatError,
    /// No answer.
    Silence,
    /// Whom to ask instead, from somebody who does not know.
    Lame,
    /// An empty answer from somebody who asked nobody.
    Clueless,
    /// An answer that was cut off, by TCP too.
    Truncated,
}

/// A question that something goes wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsFaultRule {
    /// Only questions about this name; about any when missing.
    #[serde(default)]
    pub name: Option<String>,
    /// Only questions for this type; for any when missing.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// What happens to them.
    pub fault: DnsFault,
}

/// One question that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The name, lower case, no trailing dot.
    pub name: String,
    /// The type.
    pub kind: RecordType,
    /// Asked by TCP.
    pub tcp: bool,
}

#[derive(Debug, Default)]
struct State {
    records: Records,
    faults: Vec<DnsFaultRule>,
    /// Answers are said to be validated.
    signed: bool,
    questions: Vec<Question>,
}

/// A DNS server that is being served. Dropping it stops it.
pub struct DnsSim {
    /// Where it listens.
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
    /// Serves `address` by UDP and TCP, port 0 for any that is free for both.
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

    /// Publishes a record beside those that are there.
    pub fn add(&self, name: &str, kind: &str, value: &str) -> anyhow::Result<()> {
        let record = records::parse(name, kind, value)?;
        self.lock().records.add(record);
        Ok(())
    }

    /// Publishes a record as it is, whatever is in it.
    pub fn add_raw(&self, record: rr::Record) {
        self.lock().records.add(record);
    }

    /// Publishes each of them that is not there yet.
    pub fn publish(&self, records: &[Record]) -> anyhow::Result<()> {
        for record in records {
            let record = records::parse(&record.name, &record.kind, &record.value)?;
            self.lock().records.add(record);
        }
        Ok(())
    }

    /// Takes away each of them that is there.
    pub fn unpublish(&self, records: &[Record]) -> anyhow::Result<()> {
        for record in records {
            let record = records::parse(&record.name, &record.kind, &record.value)?;
            self.lock().records.take_away(&record);
        }
        Ok(())
    }

    /// Removes what is there under a name: of one type, or all.
    pub fn remove(&self, name: &str, kind: Option<&str>) -> anyhow::Result<()> {
        let name = Name::from_ascii(name)?;
        let kind = kind.map(str::parse).transpose()?;
        self.lock().records.remove(&name, kind);
        Ok(())
    }

    /// Everything that is published.
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.all()
    }

    /// Makes something go wrong from now on. Of several rules that match, the latest counts.
    pub fn fail(&self, rule: DnsFaultRule) {
        self.lock().faults.push(rule);
    }

    /// Ends every fault.
    pub fn mend(&self) {
        self.lock().faults.clear();
    }

    /// Says from now on that answers were validated.
    pub fn sign(&self) {
        self.lock().signed = true;
    }

    /// What was asked so far.
    pub fn questions(&self) -> Vec<Question> {
        self.lock().questions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
