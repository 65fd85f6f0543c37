//! Invalid input: each case has its specific problem and changes nothing.

use dezky_sim::callers::Caller;
use http::Method;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

async fn post(app: &TestApp, content_type: &str, body: &[u8]) -> Reply {
    let call = app.operator().post_empty("/tenants");
    call.body(content_type, body).await
}

#[tokio::test]
async fn malformed_bodies_report_the_first_error_with_its_pointer() {
    let app = TestApp::with_operator().await;
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let cases = [
        ("", "", "invalid_json"),
        ("{", "", "invalid_json"),
        (
            "{\"slug\":\"acme\",\"name\":\"Acme\"} x",
            "",
            "invalid_json",
        ),
        (
            "{\"slug\":\"acme\",\"name\":\"Ac\u{1}me\"}",
            "/name",
            "invalid_json",
        ),
        ("[]", "", "wrong_type"),
        ("null", "", "wrong_type"),
        ("7", "", "wrong_type"),
        (
            "[\"acme\",\"Acme\",null,[],null,null,null,null]",
            "",
            "wrong_type",
        ),
        ("{\"slug\":7,\"name\":\"Acme\"}", "/slug", "wrong_type"),
        ("{\"slug\":\"acme\"}", "/name", "missing_field"),
        (
            "{\"slug\":\"acme\",\"name\":\"Acme\",\"nmae\":1}",
            "/nmae",
            "unknown_field",
        ),
        (
            "{\"slug\":\"acme\",\"slug\":\"acme\",\"name\":\"Acme\"}",
            "/slug",
            "duplicate_field",
        ),
        (
            "{\"slug\":\"acme\",\"name\":\"Acme\",\"domains\":[\"a.test\",7]}",
            "/domains/1",
            "wrong_type",
        ),
        (
            "{\"slug\":\"acme\",\"name\":\"Acme\",\"owner\":{\"email\":\"a@b.test\",\"x/y\":1}}",
            "/owner/x~1y",
            "unknown_field",
        ),
        (
            "{\"slug\":\"acme\",\"name\":\"Acme\",\"owner\":[\"a@b.test\",\"x\"]}",
            "/owner",
            "wrong_type",
        ),
        (
            "{\"slug\":\"acme\",\"name\":\"Acme\",\"owner\":{\"email\":\"a@b.test\",\"email\":\"a@b.test\"}}",
            "/owner/email",
            "duplicate_field",
        ),
        (&deep, "", "wrong_type"),
    ];

    for (body, pointer, code) in cases {
        let reply = post(&app, "application/json", body.as_bytes()).await;

        let what: String = body.chars().take(80).collect();
        assert_eq!(reply.summary(), "400 invalid_request", "{what}");
        assert_eq!(reply.errors(), [(pointer, code)], "{what}: {}", reply.body);
    }
    let invalid_utf8 = post(&app, "application/json", b"{\"slug\":\"\xff\"}").await;
    assert_eq!(invalid_utf8.summary(), "400 invalid_request");
    assert_eq!(app.count("tenants").await, 0);
}

#[tokio::test]
async fn array_bodies_are_rejected() {
    let app = TestApp::with_demo().await;
    let user = app.user(Caller::Stranger).await.id;
    let requests = [
        (Method::POST, "/tenants/demo/reconcile".to_owned(), "[true]"),
        (Method::POST, "/tenants/demo/suspend".to_owned(), "[]"),
        (Method::PATCH, "/tenants/demo".to_owned(), "[\"Other\"]"),
        (Method::PATCH, format!("/users/{user}"), "[{},true]"),
    ];

    for (method, path, body) in requests {
        let reply = app
            .operator()
            .request(method, &path)
            .body("application/json", body)
            .await;

        assert_eq!(reply.summary(), "400 invalid_request", "{path}");
        assert_eq!(reply.errors(), [("", "wrong_type")], "{path}");
    }
}

#[tokio::test]
async fn malformed_bodies_are_described_without_parser_internals() {
    let app = TestApp::with_operator().await;
    let cases = [
        (json!({ "slug": 7 }), "wrong_type", "string"),
        (json!({ "domains": "a.test" }), "wrong_type", "array"),
        (json!({ "owner": "ada" }), "wrong_type", "object"),
        (json!({ "owner": {} }), "missing_field", ""),
        (json!({ "nmae": 1 }), "unknown_field", ""),
    ];

    for (body, code, expected_type) in cases {
        let reply = post(&app, "application/json", body.to_string().as_bytes()).await;

        assert_eq!(reply.errors()[0].1, code, "{body}");
        let message = reply.body["errors"][0]["message"].as_str().unwrap();
        assert!(message.contains(expected_type), "{message}");
        for internal in ["invalid type", " line ", " column ", "`"] {
            assert!(!message.contains(internal), "{message}");
        }
    }
    let query = app.operator().get("/tenants?limit=x").await;
    let detail = query.body["detail"].as_str().unwrap();
    assert!(
        detail.contains("limit") && detail.contains("number"),
        "{detail}"
    );
}

#[tokio::test]
async fn at_most_100_errors_are_reported() {
    let app = TestApp::with_demo().await;
    let user = app.user(Caller::Stranger).await.id;
    let roles: Value = (0..10_000)
        .map(|n| (format!("t{n}"), json!("boss")))
        .collect::<serde_json::Map<_, _>>()
        .into();

    let reply = app
        .operator()
        .patch(format!("/users/{user}"), json!({ "tenantRoles": roles }))
        .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(reply.errors().len(), 100);
    assert!(reply.body["detail"].as_str().unwrap().contains("100"));
}

#[tokio::test]
async fn invalid_values_are_reported_together() {
    let app = TestApp::with_operator().await;
    let body = json!({
        "slug": "WWW", "name": " ", "plan": "gold", "domains": ["a.test", "A.test", "*.b.test"], "partnerId": "7",
        "industry": "x".repeat(1000), "brandColor": "red", "owner": { "email": "ada", "name": "" },
    });

    let reply = post(&app, "application/json", body.to_string().as_bytes()).await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let expected = [
        ("/slug", "invalid_slug"),
        ("/name", "too_short"),
        ("/plan", "invalid_plan"),
        ("/domains/1", "duplicate"),
        ("/domains/2", "domain_wildcard"),
        ("/partnerId", "invalid_id"),
        ("/industry", "too_long"),
        ("/brandColor", "invalid_color"),
        ("/owner/email", "invalid_email"),
        ("/owner/name", "too_short"),
    ];
    assert_eq!(reply.errors(), expected);
    assert_eq!(app.count("tenants").await, 0);
}

#[tokio::test]
async fn a_problem_response_has_the_documented_fields() {
    let app = TestApp::with_operator().await;

    let reply = app
        .operator()
        .post("/tenants", json!({ "slug": "www", "name": "Acme" }))
        .header("x-request-id", "r-1")
        .await;

    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    insta::assert_json_snapshot!(reply.body, {
        ".title" => "[text]", ".detail" => "[text]", ".errors[].message" => "[text]",
    }, @r#"
    {
      "code": "validation_failed",
      "detail": "[text]",
      "errors": [
        {
          "code": "reserved_slug",
          "message": "[text]",
          "pointer": "/slug"
        }
      ],
      "requestId": "r-1",
      "retryable": false,
      "status": 422,
      "title": "[text]",
      "type": "urn:dezky:problem:validation_failed"
    }
    "#);
}

#[tokio::test]
async fn nul_characters_are_rejected_in_every_string() {
    let app = TestApp::with_demo().await;
    let bodies = [
        (json!({ "slug": "ac\0me", "name": "A" }), "/slug"),
        (json!({ "slug": "acme", "name": "A\0" }), "/name"),
        (
            json!({ "slug": "acme", "name": "A", "domains": ["a.test", "b\0.test"] }),
            "/domains/1",
        ),
        (
            json!({ "slug": "acme", "name": "A", "owner": { "email": "a@b.test", "name": "\0" } }),
            "/owner/name",
        ),
        (json!({ "slug": "ac\0me", "name": "A\0" }), "/name"),
    ];

    for (body, at) in bodies {
        let reply = post(&app, "application/json", body.to_string().as_bytes()).await;

        assert_eq!(reply.summary(), "422 validation_failed");
        assert_eq!(reply.errors(), [(at, "nul")]);
    }
    let query = app.operator().get("/jobs?kind=a%00b").await;
    let path = app.operator().get("/tenants/a%00b").await;
    let user = app.user(Caller::Stranger).await.id;
    let key = app
        .operator()
        .patch(
            format!("/users/{user}"),
            json!({ "tenantRoles": { "a\0": "owner" } }),
        )
        .await;

    assert_eq!(query.summary(), "422 validation_failed");
    assert_eq!(path.summary(), "404 not_found");
    assert_eq!(key.summary(), "422 validation_failed");
}

#[tokio::test]
async fn unsupported_content_types_and_oversized_bodies_are_rejected() {
    let app = TestApp::with_operator().await;
    let good = json!({ "slug": "acme", "name": "Acme" }).to_string();

    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "multipart/form-data",
        "",
    ] {
        let reply = post(&app, content_type, good.as_bytes()).await;
        assert_eq!(
            reply.summary(),
            "415 unsupported_media_type",
            "{content_type}"
        );
    }
    for size in [256 * 1024 + 1, 10 * 1024 * 1024] {
        let reply = post(&app, "application/json", &vec![b' '; size]).await;
        assert_eq!(reply.summary(), "413 payload_too_large");
    }
    let padded = format!("{good}{}", " ".repeat(256 * 1024 - good.len()));
    let largest = post(&app, "Application/JSON; charset=utf-8", padded.as_bytes()).await;
    assert_eq!(largest.status, 202);
}

#[tokio::test]
async fn a_byte_order_mark_is_ignored_and_an_encoded_body_is_rejected() {
    let app = TestApp::with_operator().await;
    let body = |slug: &str| json!({ "slug": slug, "name": "Acme" }).to_string();
    let encoded = async |slug: &str, encoding: &str| {
        let call = app
            .operator()
            .post_empty("/tenants")
            .header("content-encoding", encoding);
        call.body("application/json", body(slug)).await.summary()
    };

    let marked = format!("\u{feff}{}", body("acme"));
    let marked = post(&app, "application/json", marked.as_bytes()).await;

    assert_eq!(marked.status, 202, "{marked:?}");
    assert_eq!(encoded("plain", "identity").await, "202");
    assert_eq!(
        encoded("zipped", "gzip").await,
        "415 unsupported_media_type"
    );
}

#[tokio::test]
async fn a_domain_may_be_surrounded_by_blanks() {
    let app = TestApp::with_operator().await;
    let body = json!({ "slug": "acme", "name": "Acme", "domains": [" acme.test\u{a0}"] });

    let reply = app.operator().post("/tenants", body).await;

    assert_eq!(reply.status, 202, "{reply:?}");
    assert_eq!(reply.body["domains"], json!(["acme.test"]));
}

#[tokio::test]
async fn unknown_and_malformed_parameters_are_rejected() {
    let app = TestApp::with_demo().await;
    let cases = [
        ("/tenants?colour=red", "400 invalid_request"),
        ("/tenants?limit=1&limit=2", "400 invalid_request"),
        ("/tenants?limit=x", "400 invalid_request"),
        ("/tenants?limit=0", "422 validation_failed"),
        ("/tenants?limit=101", "422 validation_failed"),
        ("/tenants?status=odd", "400 invalid_request"),
        ("/tenants?cursor=%ff", "400 invalid_cursor"),
        ("/jobs?state=odd", "400 invalid_request"),
        ("/jobs?tenantId=7", "400 invalid_request"),
        ("/tenants/demo?x=1", "400 invalid_request"),
        ("/users/me?x=1", "400 invalid_request"),
    ];

    for (path, expected) in cases {
        let reply = app.operator().get(path).await;

        assert_eq!(reply.summary(), expected, "{path}");
    }
}

#[tokio::test]
async fn null_is_rejected_for_required_fields() {
    let app = TestApp::with_demo().await;

    for field in ["name", "plan", "domains"] {
        let body = json!({ (field): null });
        let reply = app.operator().patch("/tenants/demo", &body).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{field}");
        assert_eq!(reply.errors()[0].0, format!("/{field}"));
    }
}

#[tokio::test]
async fn actions_accept_no_body_or_an_empty_object() {
    let app = TestApp::with_demo().await;
    let suspend = async |content_type: &str, body: &str| {
        let call = app.operator().post_empty("/tenants/demo/suspend");
        call.body(content_type, body).await.summary()
    };

    assert_eq!(
        suspend("application/json", "{\"reason\":\"x\"}").await,
        "400 invalid_request"
    );
    assert_eq!(
        suspend("text/plain", "x").await,
        "415 unsupported_media_type"
    );
    assert_eq!(suspend("application/json", "{}").await, "202");
}

#[tokio::test]
async fn unknown_routes_and_methods_return_problems() {
    let app = TestApp::start().await;

    let route = app.anonymous().get("/nowhere").await;
    let slash = app.anonymous().get("/tenants/").await;
    let method = app.anonymous().request(Method::PUT, "/tenants/demo").await;

    assert_eq!(route.summary(), "404 not_found");
    assert_eq!(slash.summary(), "404 not_found");
    assert_eq!(method.summary(), "405 method_not_allowed");
    let mut allowed: Vec<&str> = method.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PATCH"]);
    assert!(method.body["requestId"].is_string());
}

#[tokio::test]
async fn too_many_domains_are_rejected() {
    let app = TestApp::with_operator().await;
    let domains: Vec<String> = (0..101).map(|n| format!("d{n}.test")).collect();
    let body = |domains: &[String]| {
        json!({ "slug": "acme", "name": "Acme", "domains": domains }).to_string()
    };

    let many = post(&app, "application/json", body(&domains).as_bytes()).await;
    let most = post(&app, "application/json", body(&domains[..100]).as_bytes()).await;

    assert_eq!(many.errors(), [("/domains", "too_many")]);
    assert_eq!(most.status, 202);
}
