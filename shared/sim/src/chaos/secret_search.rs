//! Search for one-time secrets that were told to a customer, and for the keys of Stripe: no process may store or log one
//! in the clear.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
    path::Path,
};

use anyhow::Context as _;
use bson::{RawDocumentBuf, doc};
use dezky_upstreams::clients::simulated;
use futures::TryStreamExt as _;
use mongodb::Client;
use secrecy::ExposeSecret as _;

use super::{DATABASE, check::Check, load::ToldSecret, primary, stack::Stores};

/// Keys with which the processes call Stripe, and verify its webhooks.
const KEYS: [&str; 2] = [
    simulated::STRIPE_SECRET_KEY,
    simulated::STRIPE_WEBHOOK_SECRET,
];

/// Reads everything in Redis: keys and values.
const DUMP: &str = r"
local all = {}
local readers = {
    string = {'GET'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'}, hash = {'HGETALL'},
    zset = {'ZRANGE', 0, -1}, stream = {'XRANGE', '-', '+'},
}
for _, key in ipairs(redis.call('KEYS', '*')) do
    local reader = readers[redis.call('TYPE', key).ok]
    local value = redis.call(reader[1], key, unpack(reader, 2))
    table.insert(all, cjson.encode({key, value}))
end
return all
";

/// Whether MongoDB, its log of changes, Redis or the log of a process contains a told secret in the clear.
pub(super) async fn no_told_secret_is_stored_or_logged(
    told: &[ToldSecret],
    stores: &Stores,
    directory: &Path,
) -> anyhow::Result<Check> {
    let secrets = told.iter().map(|it| it.value.expose_secret());
    let mut search = Search::for_any_of(secrets.chain(KEYS));
    search.in_mongodb(primary(stores).await?).await?;
    search.in_redis(&stores.redis.url).await?;
    for file in fs::read_dir(directory)? {
        let path = file?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let place = path.display().to_string();
            search.in_bytes(&place, &fs::read(&path)?);
        }
    }
    let mut violations: Vec<String> = search.found.into_iter().collect();
    if told.is_empty() {
        violations.push("no secret was told".to_owned());
    }
    let promise = "no told secret is stored or logged";
    Ok(Check::new(promise, told.len() + KEYS.len(), violations))
}

/// Search for any of several texts of letters, digits, hyphens and underscores.
struct Search<'a> {
    secrets: HashSet<&'a [u8]>,
    lengths: BTreeSet<usize>,
    /// Places of the secrets that were found.
    found: BTreeSet<String>,
}

impl<'a> Search<'a> {
    fn for_any_of(secrets: impl Iterator<Item = &'a str>) -> Self {
        let secrets: HashSet<&[u8]> = secrets.map(str::as_bytes).collect();
        Self {
            lengths: secrets.iter().map(|secret| secret.len()).collect(),
            secrets,
            found: BTreeSet::new(),
        }
    }

    async fn in_mongodb(&mut self, primary: &Client) -> anyhow::Result<()> {
        let database = primary.database(DATABASE);
        for name in database.list_collection_names().await? {
            let collection = database.collection::<RawDocumentBuf>(&name);
            let mut documents = collection.find(doc! {}).await?;
            while let Some(document) = documents.try_next().await? {
                self.in_bytes(&format!("the collection {name}"), document.as_bytes());
            }
        }
        let log = primary.database("local");
        let log = log.collection::<RawDocumentBuf>("oplog.rs");
        let mut changes = log.find(doc! {}).await?;
        while let Some(change) = changes.try_next().await? {
            self.in_bytes("MongoDB's log of changes", change.as_bytes());
        }
        Ok(())
    }

    async fn in_redis(&mut self, url: &str) -> anyhow::Result<()> {
        let client = redis::Client::open(url)?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let script = redis::Script::new(DUMP);
        let entries: Vec<Vec<u8>> = script
            .invoke_async(&mut connection)
            .await
            .context("reading Redis")?;
        for entry in entries {
            self.in_bytes("Redis", &entry);
        }
        Ok(())
    }

    /// Compares within words that are long enough, which few are.
    fn in_bytes(&mut self, place: &str, bytes: &[u8]) {
        let Some(shortest) = self.lengths.first().copied() else {
            return;
        };
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let words = bytes.split(|byte| !is_part(byte));
        for word in words.filter(|word| word.len() >= shortest) {
            let mut lengths = self.lengths.iter();
            let is_found = lengths.any(|length| {
                let mut windows = word.windows(*length);
                windows.any(|window| self.secrets.contains(window))
            });
            if is_found {
                self.found.insert(format!("{place} contains a secret"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_within_other_text() {
        let found = |text: &str| {
            let secrets = ["abcd-efgh", "0123456789abcdef", "seti_1_secret_2"];
            let mut search = Search::for_any_of(secrets.into_iter());
            search.in_bytes("here", text.as_bytes());
            search.found.len()
        };

        assert_eq!(found(r#"{"password":"abcd-efgh"}"#), 1);
        assert_eq!(found("(seti_1_secret_2)"), 1);
        assert_eq!(found("token-0123456789abcdef0 abcd-efg"), 1);
        assert_eq!(
            found("abcd-efg 0123456789abcde\u{0}f abcd efgh seti_1 secret_2"),
            0
        );
    }
}
