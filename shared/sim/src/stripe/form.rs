//! Form encoding with nested brackets: `address[city]=Aarhus&expand[]=customer`.

use reqwest::Url;
use serde_json::{Map, Value};

/// Decodes a form into objects whose leaves are strings. A list is an object with the keys `0`, `1`, and so on.
pub(super) fn decode(form: &str) -> Option<Map<String, Value>> {
    let url = Url::parse(&format!("http://form/?{form}")).ok()?;
    let mut root = Map::new();
    for (name, value) in url.query_pairs() {
        insert(&mut root, &segments(&name)?, value.into_owned())?;
    }
    Some(root)
}

/// `a[b][]` as `a`, `b` and an empty segment. `None` if the brackets do not match.
fn segments(name: &str) -> Option<Vec<&str>> {
    let Some((first, rest)) = name.split_once('[') else {
        return Some(vec![name]);
    };
    let mut segments = vec![first];
    segments.extend(rest.strip_suffix(']')?.split("]["));
    Some(segments)
}

fn insert(map: &mut Map<String, Value>, segments: &[&str], value: String) -> Option<()> {
    let (segment, rest) = segments.split_first()?;
    let key = match *segment {
        "" => map.len().to_string(),
        name => name.to_owned(),
    };
    if rest.is_empty() {
        map.insert(key, Value::String(value));
        return Some(());
    }
    let nested = map.entry(key).or_insert_with(|| Value::Object(Map::new()));
    insert(nested.as_object_mut()?, rest, value)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn brackets_nest_and_empty_ones_append() {
        let decoded =
            decode("name=A%20%26+B&address[line1]=1&metadata[tenantId]=t&expand[]=x&expand[]=y");

        let expected = json!({
            "name": "A & B", "address": { "line1": "1" }, "metadata": { "tenantId": "t" },
            "expand": { "0": "x", "1": "y" },
        });
        assert_eq!(decoded.map(Value::Object), Some(expected));
        assert_eq!(decode("a[b=1"), None);
        assert_eq!(decode("a=1&a[b]=1"), None);
    }
}
