//! Malformed requests to every route: none may cause a server error.

use http::Method;

use crate::app::TestApp;

const BODIES: [&[u8]; 14] = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"\"\"",
    b"{\"",
    b"\xff\xfe",
    b"{\"slug\":null}",
    b"{\"name\":{\"$ne\":1}}",
    b"{\"slug\":\"acme\",\"name\":\"$where\"}",
    b"{\"tenantRoles\":{\"$gt\":null,\"\":\"owner\"}}",
    b"{\"platformAdmin\":1e999}",
    b"{\"domains\":[\"\\ud800\"]}",
    b"{\"domains\":[\"a.test\",\"b.test\"],\"name\":\"\\u202e\"}",
];

const HEADERS: [(&str, &str); 16] = [
    ("if-match", "\"99999999999999999999.1\""),
    ("if-match", "\"-1.x\", W/\"\""),
    ("if-none-match", "\"\", *"),
    ("if-none-match", "\t;"),
    ("idempotency-key", "odd"),
    ("idempotency-key", "\u{e9}"),
    ("prefer", "wait=0"),
    ("prefer", "wait=-1;;,="),
    ("prefer", "wait=\"0"),
    ("content-length", "abc"),
    ("content-type", "application/json;;;"),
    ("x-request-id", "\t"),
    ("traceparent", "00-----"),
    ("user-agent", "\u{ff}"),
    ("accept", "text/none"),
    ("authorization", "Bearer x"),
];

const SEGMENTS: [&str; 12] = [
    "demo",
    "%00",
    "%ff",
    "..",
    "%2e%2e%2f",
    "$where",
    "a%20b",
    "00000000-0000-0000-0000-000000000000",
    "01990000-0000-7000-8000-000000000000",
    "{slug}",
    "%F0%9F%92%A9",
    "x",
];

const QUERIES: [&str; 12] = [
    "",
    "?",
    "?&&=",
    "?wait=0",
    "?wait=99999999999999999999",
    "?limit=-9223372036854775809",
    "?cursor=AAAA",
    "?confirm=%00",
    "?dryRun=maybe",
    "?state=%ff",
    "?a[]=1&a[]=2",
    "?limit=1&cursor=",
];

#[tokio::test]
async fn malformed_requests_never_cause_a_server_error() {
    let app = TestApp::with_demo().await;
    let (operator, anonymous) = (app.operator(), app.anonymous());
    let document = app.openapi().await;
    let paths: Vec<String> = document["paths"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let methods = [
        Method::GET,
        Method::POST,
        Method::PATCH,
        Method::DELETE,
        Method::HEAD,
        Method::OPTIONS,
    ];
    let mut sent = 0_usize;

    for (at, path) in paths.iter().enumerate() {
        for (on, method) in methods.iter().enumerate() {
            for n in 0..6 {
                // Deterministic selection that covers combinations of all lists.
                let pick = at * 31 + on * 17 + n;
                let segment = SEGMENTS[pick % SEGMENTS.len()];
                let query = QUERIES[(pick / 2 + n) % QUERIES.len()];
                let concrete = path
                    .replace("{slug}", segment)
                    .replace("{name}", segment)
                    .replace("{id}", segment);
                if format!("{concrete}{query}").parse::<http::Uri>().is_err() {
                    continue;
                }
                let (name, value) = HEADERS[(pick + n * 5) % HEADERS.len()];
                let client = if n % 7 == 0 { &anonymous } else { &operator };
                let path = format!("{concrete}{query}");
                let mut call = client.request(method.clone(), path).header(name, value);
                if *method != Method::GET {
                    call = call.body("application/json", BODIES[pick % BODIES.len()]);
                }

                // Event streams do not end, so that the body is not read.
                let status = call.clone().open().await.status();

                assert!(!status.is_server_error(), "{call:?} {status}");
                sent += 1;
            }
        }
    }
    assert!(sent > 500, "{sent}");
}
