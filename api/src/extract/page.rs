//! Cursor pagination.

use std::io;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures::{Stream, TryStreamExt as _};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{FromQuery, Parameters};
use crate::error::{ApiError, FieldError, ProblemCode};

/// Maximum page size.
const MAX_LIMIT: i64 = 100;
/// Default page size.
const DEFAULT_LIMIT: i64 = 25;
/// Maximum size of the items of a page as JSON, in bytes: a client that does not read its response keeps it in memory.
/// A page has at least one item.
const MAX_BYTES: usize = 1024 * 1024;
/// Length of the digest that binds a cursor to its list, in bytes.
const BINDING: usize = 8;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageOf<T> {
    /// Items of the page.
    pub items: Vec<T>,
    /// Cursor of the next page. Null on the last page.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Page of a list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Page size, 1–100. Default 25.
    #[param(minimum = 1, maximum = 100, required = false)]
    pub limit: i64,
    /// `nextCursor` of the previous page.
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
}

impl<T> PageOf<T> {
    /// A short list, as its only page.
    pub fn single(items: Vec<T>) -> Self {
        Self {
            items,
            next_cursor: None,
        }
    }
}

/// Start of a page. Bound to one list and its filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Page {
    /// The id after which the page starts. `list` identifies the list and its filters.
    pub fn after<T: std::str::FromStr>(&self, list: &str) -> Result<Option<T>, ApiError> {
        self.cursor
            .as_ref()
            .map(|cursor| {
                cursor
                    .decode(list)
                    .ok_or_else(|| ProblemCode::InvalidCursor.into())
            })
            .transpose()
    }

    /// Number of items to fetch: one more than the page size, to detect whether there is another page.
    pub fn fetch_limit(&self) -> i64 {
        self.limit + 1
    }

    /// The page made of the fetched items, as many as its limits allow.
    pub fn build<I, T: Serialize>(
        &self,
        list: &str,
        fetched: Vec<I>,
        id: impl Fn(&I) -> String,
        mut view: impl FnMut(I) -> T,
    ) -> PageOf<T> {
        let mut page = PageBuilder::new(self.limit);
        let has_more = fetched.into_iter().any(|item| {
            let id = id(&item);
            !page.push(id, view(item))
        });
        page.finish(list, has_more)
    }

    /// The page made of the items that a search found among those that it read, in their order: `None` for one that does not
    /// match. `has_more` is whether it stopped before the end of the list. Such a page may be short, or even empty.
    pub fn build_found<T: Serialize>(
        &self,
        list: &str,
        read: Vec<(String, Option<T>)>,
        has_more: bool,
    ) -> PageOf<T> {
        let mut page = PageBuilder::new(self.limit);
        for (id, item) in read {
            match item {
                Some(item) => {
                    if !page.push(id, item) {
                        return page.finish(list, true);
                    }
                }
                None => page.last_id = Some(id),
            }
        }
        page.finish(list, has_more)
    }

    /// The page made of the first items of a stream, which is read only as far as the page's limits allow.
    pub async fn collect<I, T: Serialize, E>(
        &self,
        list: &str,
        mut found: impl Stream<Item = Result<I, E>> + Unpin,
        id: impl Fn(&I) -> String,
        mut view: impl FnMut(I) -> T,
    ) -> Result<PageOf<T>, E> {
        let mut page = PageBuilder::new(self.limit);
        while let Some(item) = found.try_next().await? {
            let id = id(&item);
            if !page.push(id, view(item)) {
                return Ok(page.finish(list, true));
            }
        }
        Ok(page.finish(list, false))
    }
}

/// A page that is filled up to its limits.
struct PageBuilder<T> {
    max_items: usize,
    items: Vec<T>,
    bytes: usize,
    last_id: Option<String>,
}

impl<T: Serialize> PageBuilder<T> {
    fn new(limit: i64) -> Self {
        Self {
            max_items: usize::try_from(limit).unwrap_or(0),
            items: Vec::new(),
            bytes: 0,
            last_id: None,
        }
    }

    /// Appends an item. False if the page is full: the item is on the next one.
    fn push(&mut self, id: String, item: T) -> bool {
        self.bytes += json_size(&item);
        if self.items.len() == self.max_items || self.bytes > MAX_BYTES && !self.items.is_empty() {
            return false;
        }
        self.items.push(item);
        self.last_id = Some(id);
        true
    }

    fn finish(self, list: &str, has_more: bool) -> PageOf<T> {
        let last_id = self.last_id.filter(|_| has_more);
        PageOf {
            items: self.items,
            next_cursor: last_id.map(|id| Cursor::encode(list, &id).0),
        }
    }
}

/// Size of a value as JSON, in bytes.
fn json_size(value: &impl Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A view that has no JSON form fails when the page is sent.
    let _ = serde_json::to_writer(&mut count, value);
    count.0
}

impl FromQuery for Page {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let limit = parameters
            .take("limit", "a number")?
            .unwrap_or(DEFAULT_LIMIT);
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(ApiError::invalid(vec![FieldError::parameter(
                "limit",
                "out_of_range",
                format!("limit must be 1–{MAX_LIMIT}."),
            )]));
        }
        Ok(Self {
            limit,
            cursor: parameters.text("cursor").map(Cursor),
        })
    }
}

impl Cursor {
    fn encode(list: &str, id: &str) -> Self {
        let mut bytes = binding(list).to_vec();
        bytes.extend_from_slice(id.as_bytes());
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn decode<T: std::str::FromStr>(&self, list: &str) -> Option<T> {
        let bytes = URL_SAFE_NO_PAD.decode(&self.0).ok()?;
        let id = bytes.strip_prefix(&binding(list))?;
        std::str::from_utf8(id).ok()?.parse().ok()
    }
}

fn binding(list: &str) -> [u8; BINDING] {
    let digest: [u8; 32] = Sha256::digest(list.as_bytes()).into();
    let mut binding = [0; BINDING];
    binding.copy_from_slice(&digest[..BINDING]);
    binding
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_opens_in_its_own_list_only(
            list in ".*",
            other in ".*",
            id: u64,
        ) {
            let cursor = Cursor::encode(&list, &id.to_string());

            prop_assert_eq!(cursor.decode::<u64>(&list), Some(id));
            prop_assert_eq!(cursor.decode::<u64>(&other).is_some(), list == other);
        }

        #[test]
        fn a_forged_cursor_is_rejected(text in ".*", bytes: Vec<u8>) {
            prop_assert_eq!(Cursor(text).decode::<u64>("jobs"), None);
            prop_assert_eq!(Cursor(URL_SAFE_NO_PAD.encode(bytes)).decode::<u64>("jobs"), None);
        }
    }

    #[test]
    fn a_page_is_bounded_in_items_and_in_bytes() {
        let page = |limit, sizes: &[usize]| {
            let page = Page {
                limit,
                cursor: None,
            };
            let texts = sizes.iter().map(|size| "x".repeat(*size)).collect();
            let page = page.build(
                "list",
                texts,
                |text: &String| text.len().to_string(),
                |text| text,
            );
            let next = page
                .next_cursor
                .map(|next| Cursor(next).decode::<usize>("list").unwrap());
            (page.items.len(), next)
        };

        assert_eq!(page(2, &[1, 2]), (2, None));
        assert_eq!(page(2, &[1, 2, 3]), (2, Some(2)));
        assert_eq!(page(9, &[600_000, 400_000, 600_001]), (2, Some(400_000)));
        assert_eq!(page(9, &[2_000_000, 1]), (1, Some(2_000_000)));
        assert_eq!(page(9, &[2_000_000]), (1, None));
    }

    #[tokio::test]
    async fn a_page_reads_its_items_only_until_it_is_full() {
        let page = Page {
            limit: 100,
            cursor: None,
        };
        let mut read = 0;
        let items = stream::iter(0..100).inspect(|_| read += 1);
        let items = items.map(|n| Ok::<_, ()>((n, "x".repeat(200_000))));

        let page = page.collect("list", items, |(n, _)| n.to_string(), |(_, text)| text);
        let page = page.await.unwrap();

        assert_eq!((page.items.len(), read), (5, 6));
        let next = Cursor(page.next_cursor.unwrap());
        assert_eq!(next.decode("list"), Some(4));
    }

    #[test]
    fn a_cursor_is_bound_to_the_filters_of_its_list() {
        let cursor = Cursor::encode("jobs?state=available", "17");

        assert_eq!(cursor.decode::<u32>("jobs?state=available"), Some(17));
        assert_eq!(cursor.decode::<u32>("jobs?state=running"), None);
        assert_eq!(
            Cursor("not a cursor".to_owned()).decode::<u32>("jobs"),
            None
        );
        assert_eq!(Cursor(String::new()).decode::<u32>("jobs"), None);
    }
}
