//! Lists in pages.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use utoipa::{IntoParams, ToSchema};

use super::{FromQuery, Parameters};
use crate::error::{ApiError, FieldError, ProblemCode};

/// The most items on a page.
const LONGEST_PAGE: i64 = 100;
/// How many items are on a page unless more or fewer are asked for.
const USUAL_PAGE: i64 = 25;
/// How many bytes of a digest tell one list from another.
const BINDING: usize = 8;

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PageOf<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Where the next page begins; null on the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

/// Which page is asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// At most so many items: 1 to 100, usually 25.
    #[param(minimum = 1, maximum = 100, required = false)]
    pub limit: i64,
    /// The `nextCursor` of the page before.
    #[param(value_type = Option<String>)]
    pub cursor: Option<Cursor>,
}

impl<T> PageOf<T> {
    /// A list that is always short, on its one page.
    pub fn single(items: Vec<T>) -> Self {
        Self {
            items,
            next_cursor: None,
        }
    }
}

/// Where a page begins. It belongs to one list with its filters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(String);

impl Page {
    /// The id after which the page begins. `list` names the list and its filters.
    pub fn after<T: std::str::FromStr>(&self, list: &str) -> Result<Option<T>, ApiError> {
        self.cursor
            .as_ref()
            .map(|cursor| {
                cursor
                    .open(list)
                    .ok_or_else(|| ProblemCode::InvalidCursor.into())
            })
            .transpose()
    }

    /// How many items to ask for: one more than there is room for says whether there is another page.
    pub fn fetch_limit(&self) -> i64 {
        self.limit + 1
    }

    /// The page with the items that there is room for.
    pub fn build<I, T>(
        &self,
        list: &str,
        mut found: Vec<I>,
        id: impl Fn(&I) -> String,
        view: impl FnMut(I) -> T,
    ) -> PageOf<T> {
        let room = usize::try_from(self.limit).unwrap_or(0);
        let more = found.len() > room;
        found.truncate(room);
        let next_cursor = found
            .last()
            .filter(|_| more)
            .map(|last| Cursor::seal(list, &id(last)).0);
        PageOf {
            items: found.into_iter().map(view).collect(),
            next_cursor,
        }
    }
}

impl FromQuery for Page {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let limit = parameters.take("limit", "a number")?.unwrap_or(USUAL_PAGE);
        if !(1..=LONGEST_PAGE).contains(&limit) {
            return Err(ApiError::invalid(vec![FieldError::parameter(
                "limit",
                "out_of_range",
                format!("limit must be 1 to {LONGEST_PAGE}."),
            )]));
        }
        Ok(Self {
            limit,
            cursor: parameters.text("cursor").map(Cursor),
        })
    }
}

impl Cursor {
    fn seal(list: &str, id: &str) -> Self {
        let mut bytes = binding(list).to_vec();
        bytes.extend_from_slice(id.as_bytes());
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    fn open<T: std::str::FromStr>(&self, list: &str) -> Option<T> {
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
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cursor_leads_back_to_where_it_was_made_and_in_no_other_list(
            list in ".*",
            other in ".*",
            id: u64,
        ) {
            let cursor = Cursor::seal(&list, &id.to_string());

            prop_assert_eq!(cursor.open::<u64>(&list), Some(id));
            prop_assert_eq!(cursor.open::<u64>(&other).is_some(), list == other);
        }

        #[test]
        fn a_cursor_that_somebody_made_up_leads_nowhere(text in ".*", bytes: Vec<u8>) {
            prop_assert_eq!(Cursor(text).open::<u64>("jobs"), None);
            prop_assert_eq!(Cursor(URL_SAFE_NO_PAD.encode(bytes)).open::<u64>("jobs"), None);
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let cursor = Cursor::seal("jobs?state=available", "17");

        assert_eq!(cursor.open::<u32>("jobs?state=available"), Some(17));
        assert_eq!(cursor.open::<u32>("jobs?state=running"), None);
        assert_eq!(Cursor("not a cursor".to_owned()).open::<u32>("jobs"), None);
        assert_eq!(Cursor(String::new()).open::<u32>("jobs"), None);
    }
}
