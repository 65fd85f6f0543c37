//! The list of all project spaces, or of all personal spaces, parsed as it streams.
//!
//! oCIS cannot filter spaces by marker and does not paginate: the list has 1 kB for each space and 300 bytes for each of
//! its members. It is therefore read only to look for the space of an earlier create whose outcome is unknown, and by
//! the daily check. Neither the list nor a part of it is kept in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    io::{self, BufReader, Read},
    sync::Arc,
    time::Duration,
};

use http::Method;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use tokio::sync::mpsc;

use super::{DRIVES, Ocis, drives::QuotaState, error::ResponseExt as _};
use crate::clients::{BodySink, ClientError, LeaseDeadline, Operation};
use dezky_shared::{
    platform::coalescer::{Coalescer, Limits},
    storage_report::SpaceUsage,
};

/// Timeout of the whole list, below that of a job's attempt: enough for 200,000 spaces at the 1 ms that oCIS takes for
/// each.
const LIST_TIMEOUT: Duration = Duration::from_mins(4);
/// Chunks of the response body between network and parser.
const CHUNKS: usize = 16;
/// Spaces between parser and receiver.
const SPACES: usize = 1_000;
/// Maximum pause between two lists of all spaces.
const MAX_LIST_PAUSE: Duration = Duration::from_secs(2);

/// Type of the spaces of tenants.
const PROJECT: &str = "project";
/// Type of the spaces of users.
const PERSONAL: &str = "personal";

/// Space in the list of all of a type.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedSpace {
    /// Id assigned by oCIS.
    pub id: String,
    /// Alias, which members of the space may change; empty if it has none.
    #[serde(default, deserialize_with = "null_as_empty")]
    pub drive_alias: String,
    #[serde(default, deserialize_with = "null_as_empty")]
    drive_type: String,
    #[serde(default)]
    quota: QuotaState,
    #[serde(default)]
    owner: Owner,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
struct Owner {
    user: Option<OwnerUser>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct OwnerUser {
    id: String,
}

impl ListedSpace {
    /// Id of the user whose personal space it is.
    pub fn owner_id(&self) -> Option<&str> {
        self.owner.user.as_ref().map(|user| user.id.as_str())
    }

    /// Its usage.
    pub fn usage(&self) -> SpaceUsage {
        self.quota.usage()
    }
}

/// One space without an alias must not make the whole list unreadable.
fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Request coalescing of the search for markers: one list is in flight at a time, and looks for the markers of all steps
/// that wait for it. The pause after it is as long as it took, so that oCIS can serve other requests.
pub(super) fn marker_search() -> Coalescer<BTreeSet<String>, Found> {
    Coalescer::new(Limits {
        in_flight: 1,
        slot_timeout: None,
        pause: |found: &Found, took| match found.ids {
            Ok(_) => took.min(MAX_LIST_PAUSE),
            Err(_) => Duration::ZERO,
        },
    })
}

/// Result of a search for markers.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Ids of the spaces with each marker.
    ids: Result<Arc<BTreeMap<String, Vec<String>>>, ClientError>,
    /// Request ids assigned by oCIS.
    request_ids: Vec<String>,
}

impl Ocis {
    /// Ids of the project spaces with `marker`, ascending, including those in the trash.
    pub(super) async fn search_marker(&self, marker: &str) -> Result<Vec<String>, ClientError> {
        let ocis = self.clone();
        let found = self
            .marker_search
            .load(
                |markers| {
                    markers.insert(marker.to_owned());
                },
                |markers| ocis.search_markers(markers),
            )
            .await;
        for id in &found.request_ids {
            self.http.deadline().note_request_id(id);
        }
        Ok(found.ids?.get(marker).cloned().unwrap_or_default())
    }

    /// Searches on behalf of any number of steps, so no single step's lease deadline applies.
    async fn search_markers(self, markers: BTreeSet<String>) -> Found {
        let deadline = LeaseDeadline::unlimited();
        let client = self.with_deadline(&deadline);
        let (spaces, mut listed) = mpsc::channel(SPACES);
        let search = async {
            let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
            while let Some(ListedSpace {
                id, drive_alias, ..
            }) = listed.recv().await
            {
                if markers.contains(&drive_alias) {
                    ids.entry(drive_alias).or_default().push(id);
                }
            }
            for ids in ids.values_mut() {
                ids.sort();
            }
            ids
        };
        let (listed, ids) = tokio::join!(client.list_spaces(spaces), search);
        Found {
            ids: listed.map(|()| Arc::new(ids)),
            request_ids: deadline.request_ids(),
        }
    }

    /// Lists all project spaces, including those in the trash, in any order, to `spaces`. A slow receiver slows the list
    /// down, up to four minutes in all.
    ///
    /// Complete only if it returns `Ok`, and if our account [sees every space](Self::require_full_view).
    pub async fn list_spaces(&self, spaces: mpsc::Sender<ListedSpace>) -> Result<(), ClientError> {
        self.list_drives(PROJECT, spaces).await
    }

    /// As [`list_spaces`](Self::list_spaces), the personal spaces of all users: each appears with the first sign-in.
    pub async fn list_personal_spaces(
        &self,
        spaces: mpsc::Sender<ListedSpace>,
    ) -> Result<(), ClientError> {
        self.list_drives(PERSONAL, spaces).await
    }

    async fn list_drives(
        &self,
        kind: &'static str,
        spaces: mpsc::Sender<ListedSpace>,
    ) -> Result<(), ClientError> {
        let (chunks, body) = mpsc::channel(CHUNKS);
        let parser = tokio::task::spawn_blocking(move || parse(kind, body, &spaces));
        let filter = format!("driveType eq '{kind}'");
        let request = self
            .http
            .request(Method::GET, DRIVES)
            .query(&[("$filter", filter)]);
        let sink = BodySink {
            chunks,
            timeout: LIST_TIMEOUT,
        };
        let operation = Operation::read("list_spaces");
        let response = self.send_into(operation, request, Some(&sink)).await;
        // The end of the body for the parser.
        drop(sink);
        let response = response?.error_for_status()?;
        let parsed = parser
            .await
            .map_err(|_| response.unreadable("the parser of the list was stopped"))?;
        parsed.map_err(|error| response.unreadable(&error.to_string()))
    }
}

/// Parses a list from the chunks of its body. Blocks.
fn parse(
    kind: &str,
    chunks: mpsc::Receiver<Vec<u8>>,
    spaces: &mpsc::Sender<ListedSpace>,
) -> Result<(), serde_json::Error> {
    let body = ChunkReader {
        chunks,
        current: io::Cursor::default(),
    };
    let mut parser = serde_json::Deserializer::from_reader(BufReader::new(body));
    ListBody { kind, spaces }.deserialize(&mut parser)?;
    parser.end()
}

/// Chunks of a body as a blocking reader. It ends when the sender is dropped.
struct ChunkReader {
    chunks: mpsc::Receiver<Vec<u8>>,
    current: io::Cursor<Vec<u8>>,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 {
                return Ok(read);
            }
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = io::Cursor::new(chunk),
                None => return Ok(0),
            }
        }
    }
}

/// The object `{"value": [...]}`.
#[derive(Clone, Copy)]
struct ListBody<'a> {
    /// Type of the spaces that are passed on.
    kind: &'a str,
    spaces: &'a mpsc::Sender<ListedSpace>,
}

impl<'de> DeserializeSeed<'de> for ListBody<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ListBody<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spaces")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut has_value = false;
        while let Some(name) = members.next_key::<String>()? {
            if name == "value" {
                has_value = true;
                members.next_value_seed(Items(self))?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        if has_value {
            Ok(())
        } else {
            Err(A::Error::missing_field("value"))
        }
    }
}

/// The array of spaces.
struct Items<'a>(ListBody<'a>);

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of spaces")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(space) = items.next_element::<ListedSpace>()? {
            let ListBody { kind, spaces } = self.0;
            if space.drive_type == kind && spaces.blocking_send(space).is_err() {
                return Err(A::Error::custom("the receiver has stopped"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses a body that arrives in chunks of `size` bytes.
    fn parsed(body: &str, size: usize) -> Result<Vec<String>, String> {
        let (chunks, received) = mpsc::channel(body.len() + 1);
        for chunk in body.as_bytes().chunks(size) {
            chunks.try_send(chunk.to_vec()).unwrap();
        }
        drop(chunks);
        let (spaces, mut listed) = mpsc::channel(10);
        parse(PROJECT, received, &spaces).map_err(|error| error.to_string())?;
        drop(spaces);
        let ids = std::iter::from_fn(|| listed.try_recv().ok().map(|space| space.id));
        Ok(ids.collect())
    }

    const LIST: &str = r#"{"@odata.context": {"value": [1]}, "value": [
        {"id": "a$1", "driveType": "project", "driveAlias": "project/\"}]", "root": {"permissions": [{"roles": []}]}},
        {"id": "a$2", "driveType": "personal"},
        {"id": "a$3", "driveType": "project"},
        {"id": "a$4", "driveType": null},
        {"id": "a$5", "driveType": "project", "driveAlias": null}
    ], "more": null}"#;

    #[test]
    fn a_list_is_parsed_from_chunks_of_any_size() {
        for size in [1, 7, 64, LIST.len()] {
            assert_eq!(parsed(LIST, size).unwrap(), ["a$1", "a$3", "a$5"], "{size}");
        }
        assert_eq!(parsed(r#"{"value": []}"#, 3).unwrap(), [""; 0]);
    }

    #[test]
    fn a_list_that_breaks_off_or_is_none_is_an_error() {
        for body in ["", "{}", "[]", "<html>", r#"{"value": null}"#, &LIST[..150]] {
            assert!(parsed(body, 16).is_err(), "{body}");
        }
    }
}
