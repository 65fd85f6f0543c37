//! DNS client for one configured resolver. It exposes response codes, flags and failures as received, and caches nothing.

use std::{
    collections::{BTreeSet, HashSet},
    io::ErrorKind,
    time::Duration,
};

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
const MAX_ALIASES: usize = 16;
/// The time limit of one query, so that a silent resolver does not use up the time of the whole check.
const QUERY_TIMEOUT: Duration = Duration::from_secs(10);

type Exchange = DnsExchange<TokioRuntimeProvider>;

/// One configured resolver.
pub(super) struct Nameserver {
    address: ResolverAddress,
    timeout: Duration,
    /// Owns the tasks that serve connections; they end with it.
    runtime: TokioRuntimeProvider,
    /// The open TLS or HTTPS connection, which is reused.
    connection: Mutex<Option<Exchange>>,
}

impl std::fmt::Debug for Nameserver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Nameserver")
            .field(&self.address.name)
            .finish()
    }
}

/// Whether the resolver should validate DNSSEC signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Validation {
    On,
    Off,
}

/// Whether a query has an EDNS record (RFC 6891).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extension {
    On,
    Off,
}

impl Nameserver {
    pub(super) fn new(address: ResolverAddress, timeout: Duration) -> Self {
        Self {
            address,
            timeout: timeout.min(QUERY_TIMEOUT),
            runtime: TokioRuntimeProvider::default(),
            connection: Mutex::default(),
        }
    }

    /// The configured name.
    pub(super) fn name(&self) -> &str {
        &self.address.name
    }

    /// Sends a query. A resolver that rejects EDNS gets the query again without it (RFC 6891, section 6.2.2).
    async fn query(
        &self,
        name: &Name,
        kind: RecordType,
        validation: Validation,
    ) -> Result<DnsResponse, Failure> {
        let request = |extension| request(name, kind, validation, extension, self.timeout);
        let response = self.send(request(Extension::On)).await?;
        let rejects_extension = matches!(
            response.response_code,
            ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::BADVERS
        );
        if !rejects_extension {
            return Ok(response);
        }
        self.send(request(Extension::Off)).await
    }

    /// Sends a request over the configured transport. A truncated UDP response is requested again over TCP.
    async fn send(&self, request: DnsRequest) -> Result<DnsResponse, Failure> {
        if self.address.transport != Transport::Plain {
            return self.send_on_connection(&request).await;
        }
        let response = self.by_udp().send(request.clone());
        let response = response.first_answer().await.map_err(failure)?;
        if !response.truncation {
            return Ok(response);
        }
        let exchange = self.by_tcp().await.map_err(failure)?;
        let response = exchange.send(request).first_answer().await;
        response.map_err(failure)
    }

    /// Whether a zone that the answer comes from is signed: validation can fail only below a DS record (RFC 4035, section
    /// 5.2). Domains are delegated at the registered domain.
    async fn is_signed(&self, name: &Name, response: &DnsResponse) -> bool {
        let targets = response.answers.iter().filter_map(|it| match &it.data {
            RData::CNAME(target) => Some(text(&target.0)),
            _ => None,
        });
        let names = targets.chain([text(name)]);
        let domains: BTreeSet<String> = names
            .filter_map(|name| psl::domain_str(&name).map(str::to_owned))
            .collect();
        for domain in domains {
            let Ok(mut domain) = Name::from_ascii(domain) else {
                continue;
            };
            domain.set_fqdn(true);
            let response = self.query(&domain, RecordType::DS, Validation::Off).await;
            let is_delegation = |it: &Record| it.record_type() == RecordType::DS;
            if response.is_ok_and(|response| response.answers.iter().any(is_delegation)) {
                return true;
            }
        }
        false
    }

    /// Sends a request over TLS or HTTPS.
    async fn send_on_connection(&self, request: &DnsRequest) -> Result<DnsResponse, Failure> {
        let exchange = self.connection().await?;
        match exchange.send(request.clone()).first_answer().await {
            Ok(response) => return Ok(response),
            Err(NetError::Timeout) => return Err(Failure::Timeout),
            // The connection may have been closed since it was last used.
            Err(_) => *self.connection.lock().await = None,
        }
        let exchange = self.connection().await?;
        let response = exchange.send(request.clone()).first_answer().await;
        response.map_err(failure)
    }

    /// The open connection, or a new one.
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
            // No record exists at an invalid name.
            return Ok(Answer::default());
        };
        name.set_fqdn(true);
        let mut response = self.query(&name, kind, Validation::On).await?;
        // A SERVFAIL may be temporary.
        if response.response_code == ResponseCode::ServFail {
            response = self.query(&name, kind, Validation::On).await?;
        }
        if response.response_code != ResponseCode::ServFail {
            return read(&response, &name, kind);
        }
        match self.query(&name, kind, Validation::Off).await {
            Ok(response)
                if response.response_code != ResponseCode::ServFail
                    && self.is_signed(&name, &response).await =>
            {
                Err(Failure::Bogus)
            }
            _ => Err(Failure::ServFail),
        }
    }
}

fn request(
    name: &Name,
    kind: RecordType,
    validation: Validation,
    extension: Extension,
    timeout: Duration,
) -> DnsRequest {
    let mut message = Message::query();
    message.add_query(Query::query(name.clone(), kind));
    message.metadata.recursion_desired = true;
    // Requests the validation result without the signatures (RFC 6840, section 5.7).
    message.metadata.authentic_data = true;
    message.metadata.checking_disabled = validation == Validation::Off;
    if extension == Extension::On {
        let mut edns = Edns::new();
        edns.set_max_payload(DEFAULT_MAX_PAYLOAD_LEN);
        message.set_edns(edns);
    }
    let mut options = DnsRequestOptions::default();
    // A query lost over UDP is sent up to three more times.
    options.retry_interval = timeout / 4;
    DnsRequest::new(message, options)
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
            || answer.aliases.len() == MAX_ALIASES
        {
            return Err(Failure::AliasLoop);
        }
        answer.aliases.push(target_name);
        ttl = ttl.into_iter().chain([record.ttl]).min();
        owner = target;
    }
    // Equal records of a set are one record (RFC 2181, section 5).
    let mut distinct = HashSet::new();
    for record in &response.answers {
        let is_asked_for = record.name == *owner && record.record_type() == kind;
        if !is_asked_for || !distinct.insert(&record.data) {
            continue;
        }
        if let Some(value) = value(&record.data) {
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
        RData::PTR(name) => Value::Name(text(&name.0)),
        _ => return None,
    })
}

/// Whether an empty answer is unreliable. It is reliable if it comes with a SOA record, from a recursive resolver, or from
/// an authoritative server that did not stop at an alias into another zone.
fn is_lame(response: &DnsResponse, answer: &Answer) -> bool {
    if response.soa().is_some() {
        return false;
    }
    let is_referral = response
        .authorities
        .iter()
        .any(|record| record.record_type() == RecordType::NS);
    let is_complete =
        response.recursion_available || (response.authoritative && answer.aliases.is_empty());
    is_referral || !is_complete
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
