//! A resolver of the real world, spoken to directly: the response code, the flags and the way an answer failed must be
//! seen as they are, and nothing may be answered from a cache of ours.

use std::{io::ErrorKind, time::Duration};

use hickory_resolver::{
    net::{
        DnsHandle as _, NetError,
        h2::HttpsClientStream,
        runtime::TokioRuntimeProvider,
        tcp::TcpClientStream,
        tls,
        udp::UdpClientStream,
        xfer::{DnsExchange, FirstAnswer as _},
    },
    proto::{
        op::{
            DEFAULT_MAX_PAYLOAD_LEN, DnsRequest, DnsRequestOptions, DnsResponse, Edns, Message,
            Query, ResponseCode,
        },
        rr::{DNSClass, Name, RData, Record, RecordType},
    },
};
use tokio::sync::Mutex;

use super::{
    config::{ResolverAddress, Transport},
    resolver::{Answer, Failure, Resolver, Value},
};

/// The most aliases that are followed.
const ALIASES: usize = 16;

type Exchange = DnsExchange<TokioRuntimeProvider>;

/// One configured resolver.
pub(super) struct Nameserver {
    address: ResolverAddress,
    timeout: Duration,
    /// Holds the tasks that serve connections: they end with it.
    runtime: TokioRuntimeProvider,
    /// The connection by TLS or HTTPS, kept from question to question.
    connection: Mutex<Option<Exchange>>,
}

impl std::fmt::Debug for Nameserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Nameserver")
            .field(&self.address.name)
            .finish()
    }
}

/// Whether the resolver is to check signatures before it answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validation {
    On,
    Off,
}

impl Nameserver {
    pub(super) fn new(address: ResolverAddress, timeout: Duration) -> Self {
        Self {
            address,
            timeout,
            runtime: TokioRuntimeProvider::default(),
            connection: Mutex::default(),
        }
    }

    /// As it was configured.
    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    /// One question and its answer, by whatever transport it takes.
    async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
        validation: Validation,
    ) -> Result<DnsResponse, Failure> {
        let question = self.question(name, kind, validation);
        if self.address.transport != Transport::Plain {
            return self.ask_kept(&question).await;
        }
        let response = self.by_udp().send(question.clone());
        let response = response.first_answer().await.map_err(failure)?;
        if !response.truncation {
            return Ok(response);
        }
        let exchange = self.by_tcp().await.map_err(failure)?;
        let response = exchange.send(question).first_answer().await;
        response.map_err(failure)
    }

    fn question(&self, name: &Name, kind: RecordType, validation: Validation) -> DnsRequest {
        let mut message = Message::query();
        message.add_query(Query::query(name.clone(), kind));
        message.metadata.recursion_desired = true;
        // Asks to be told whether the answer was validated (RFC 6840, section 5.7), without being sent the signatures.
        message.metadata.authentic_data = true;
        message.metadata.checking_disabled = validation == Validation::Off;
        let mut edns = Edns::new();
        edns.set_max_payload(DEFAULT_MAX_PAYLOAD_LEN);
        message.set_edns(edns);
        let mut options = DnsRequestOptions::default();
        // What was lost on the way by UDP is asked again three times.
        options.retry_interval = self.timeout / 4;
        DnsRequest::new(message, options)
    }

    /// By TLS or HTTPS.
    async fn ask_kept(&self, question: &DnsRequest) -> Result<DnsResponse, Failure> {
        let exchange = self.connection().await?;
        match exchange.send(question.clone()).first_answer().await {
            Ok(response) => return Ok(response),
            Err(NetError::Timeout) => return Err(Failure::Timeout),
            // The connection may have ended since it was last used.
            Err(_) => *self.connection.lock().await = None,
        }
        let exchange = self.connection().await?;
        let response = exchange.send(question.clone()).first_answer().await;
        response.map_err(failure)
    }

    /// The one that is open, or a new one.
    async fn connection(&self) -> Result<Exchange, Failure> {
        let mut connection = self.connection.lock().await;
        if let Some(exchange) = &*connection {
            return Ok(exchange.clone());
        }
        let exchange = self.connect().await.map_err(failure)?;
        Ok(connection.insert(exchange).clone())
    }

    fn by_udp(&self) -> Exchange {
        UdpClientStream::builder(self.address.address, self.runtime.clone())
            .with_timeout(Some(self.timeout))
            .exchange()
    }

    async fn by_tcp(&self) -> Result<Exchange, NetError> {
        let runtime = self.runtime.clone();
        TcpClientStream::exchange(self.address.address, None, self.timeout, None, runtime).await
    }

    async fn connect(&self) -> Result<Exchange, NetError> {
        let (runtime, address) = (self.runtime.clone(), self.address.address);
        match &self.address.transport {
            Transport::Plain => self.by_tcp().await,
            Transport::Tls(host) => {
                let host = String::from(&**host)
                    .try_into()
                    .map_err(|_| NetError::Message("not a host name"))?;
                let config = tls::client_config()?;
                tls::tls_exchange(address, host, config, self.timeout, None, runtime).await
            }
            Transport::Https(host, path) => {
                let config = tls::client_config()?.into();
                let mut builder = HttpsClientStream::builder(config, runtime);
                builder.request_timeout(self.timeout);
                builder.exchange(address, host.clone(), path.clone()).await
            }
        }
    }
}

impl Resolver for Nameserver {
    async fn lookup(&self, name: &str, kind: RecordType) -> Result<Answer, Failure> {
        let Ok(mut name) = Name::from_ascii(name) else {
            // What cannot be a name is under nobody's.
            return Ok(Answer::default());
        };
        name.set_fqdn(true);
        let response = self.ask(&name, kind, Validation::On).await?;
        if response.response_code != ResponseCode::ServFail {
            return read(&response, &name, kind);
        }
        match self.ask(&name, kind, Validation::Off).await {
            Ok(response) if response.response_code != ResponseCode::ServFail => Err(Failure::Bogus),
            _ => Err(Failure::ServFail),
        }
    }
}

fn read(response: &DnsResponse, name: &Name, kind: RecordType) -> Result<Answer, Failure> {
    let name_exists = match response.response_code {
        _ if response.truncation => return Err(Failure::Truncated),
        ResponseCode::NoError => true,
        ResponseCode::NXDomain => false,
        ResponseCode::Refused => return Err(Failure::Refused),
        _ => return Err(Failure::Malformed),
    };
    let mut answer = Answer {
        name_exists,
        authentic: response.authentic_data,
        ..Answer::default()
    };
    let mut ttl = None;
    let mut owner = name;
    while let Some((record, target)) = alias(response, owner) {
        let target_name = text(target);
        if target == name
            || answer.aliases.contains(&target_name)
            || answer.aliases.len() == ALIASES
        {
            return Err(Failure::AliasLoop);
        }
        answer.aliases.push(target_name);
        ttl = ttl.into_iter().chain([record.ttl]).min();
        owner = target;
    }
    for record in &response.answers {
        let is_asked_for = record.name == *owner && record.record_type() == kind;
        if let Some(value) = value(&record.data).filter(|_| is_asked_for) {
            answer.values.push(value);
            ttl = ttl.into_iter().chain([record.ttl]).min();
        }
    }
    if answer.values.is_empty() {
        if is_lame(response, &answer) {
            return Err(Failure::Lame);
        }
        ttl = ttl.into_iter().chain(response.negative_ttl()).min();
    }
    answer.ttl = ttl;
    Ok(answer)
}

fn alias<'a>(response: &'a DnsResponse, owner: &Name) -> Option<(&'a Record, &'a Name)> {
    let mut records = response.answers.iter();
    records.find_map(|record| match &record.data {
        RData::CNAME(target) if record.name == *owner && record.dns_class == DNSClass::IN => {
            Some((record, &target.0))
        }
        _ => None,
    })
}

fn value(data: &RData) -> Option<Value> {
    Some(match data {
        RData::MX(mx) => Value::Mx(mx.preference, text(&mx.exchange)),
        RData::TXT(txt) => {
            let bytes = txt.txt_data.concat();
            Value::Text(String::from_utf8_lossy(&bytes).into_owned())
        }
        RData::A(address) => Value::Address(address.0.into()),
        RData::AAAA(address) => Value::Address(address.0.into()),
        _ => return None,
    })
}

/// An empty answer is believed of a zone's own server, and of a resolver that went there. It is not when it points
/// elsewhere, or stops in the middle of aliases.
fn is_lame(response: &DnsResponse, answer: &Answer) -> bool {
    if response.soa().is_some() {
        return false;
    }
    let refers = response
        .authorities
        .iter()
        .any(|record| record.record_type() == RecordType::NS);
    let knows = response.authoritative || response.recursion_available;
    refers || !knows || !answer.aliases.is_empty()
}

fn text(name: &Name) -> String {
    super::resolver::normalise(&name.to_ascii())
}

fn failure(error: NetError) -> Failure {
    match error {
        NetError::Timeout => Failure::Timeout,
        NetError::Io(error) if error.kind() == ErrorKind::TimedOut => Failure::Timeout,
        NetError::Proto(_) | NetError::QueryCaseMismatch => Failure::Malformed,
        NetError::Truncated => Failure::Truncated,
        _ => Failure::Unreachable,
    }
}
