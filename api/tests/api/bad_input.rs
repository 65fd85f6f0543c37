//! Bad input: each gets its precise problem and changes nothing.

use dezky_sim::callers::Caller;
use http::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

async fn post(app: &TestApp, content_type: &str, body: &[u8]) -> Reply {
    let call = app.post("/tenants").by(Caller::Operator);
    call.raw(content_type, body.to_vec()).send().await
}

async fn operator() -> TestApp {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;
    app
}

/// The pointers and codes of all errors.
fn errors(reply: &Reply) -> Vec<(String, String)> {
    let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
    let text = |error: &Value, name: &str| error[name].as_str().unwrap_or_default().to_owned();
    errors
        .iter()
        .map(|error| {
            let at = text(error, "pointer") + &text(error, "parameter");
            (at, text(error, "code"))
        })
        .collect()
}

#[tokio::test]
async fn errors_of_shape_name_the_first_with_its_pointer() {
    let app = operator().await;
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
        assert_eq!(
            errors(&reply),
            [(pointer.to_owned(), code.to_owned())],
            "{what}: {}",
            reply.body
        );
    }
    let invalid_utf8 = post(&app, "application/json", b"{\"slug\":\"\xff\"}").await;
    assert_eq!(invalid_utf8.summary(), "400 invalid_request");
    assert_eq!(app.count("tenants").await, 0);
}

#[tokio::test]
async fn no_body_is_taken_by_position() {
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
            .call(method, &path)
            .by(Caller::Operator)
            .raw("application/json", body.as_bytes().to_vec())
            .send()
            .await;

        assert_eq!(reply.summary(), "400 invalid_request", "{path}");
        assert_eq!(reply.body["detail"], "This must be an object.", "{path}");
    }
}

#[tokio::test]
async fn errors_of_shape_are_told_in_our_own_words() {
    let app = operator().await;
    let cases = [
        (json!({ "slug": 7 }), "This must be a string."),
        (json!({ "domains": "a.test" }), "This must be an array."),
        (json!({ "owner": "ada" }), "This must be an object."),
        (json!({ "owner": {} }), "This field is missing."),
        (json!({ "nmae": 1 }), "There is no such field here."),
    ];

    for (body, message) in cases {
        let reply = post(&app, "application/json", body.to_string().as_bytes()).await;

        assert_eq!(reply.body["errors"][0]["message"], message, "{body}");
    }
    let query = app
        .get("/tenants?limit=x")
        .by(Caller::Operator)
        .send()
        .await;
    assert_eq!(query.body["detail"], "limit must be a number.");
}

#[tokio::test]
async fn an_answer_is_not_many_times_as_large_as_its_request() {
    let app = TestApp::with_demo().await;
    let user = app.user(Caller::Stranger).await.id;
    let roles: Value = (0..10_000)
        .map(|n| (format!("t{n}"), json!("boss")))
        .collect::<serde_json::Map<_, _>>()
        .into();

    let reply = app
        .patch(&format!("/users/{user}"))
        .by(Caller::Operator)
        .json(&json!({ "tenantRoles": roles }))
        .send()
        .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(errors(&reply).len(), 100);
    assert_eq!(reply.body["detail"], "See the first 100 errors.");
}

#[tokio::test]
async fn errors_of_value_are_reported_all_together() {
    let app = operator().await;
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
    assert_eq!(
        errors(&reply),
        expected.map(|(at, code)| (at.to_owned(), code.to_owned()))
    );
    assert_eq!(app.count("tenants").await, 0);
}

#[tokio::test]
async fn a_problem_looks_like_this() {
    let app = operator().await;

    let reply = app
        .post("/tenants")
        .by(Caller::Operator)
        .header("x-request-id", "r-1")
        .json(&json!({ "slug": "www", "name": "Acme" }))
        .send()
        .await;

    assert_eq!(
        reply.header("content-type"),
        Some("application/problem+json")
    );
    insta::assert_json_snapshot!(reply.body, @r#"
    {
      "code": "validation_failed",
      "detail": "See the errors.",
      "errors": [
        {
          "code": "reserved_slug",
          "message": "\"www\" is reserved.",
          "pointer": "/slug"
        }
      ],
      "requestId": "r-1",
      "retryable": false,
      "status": 422,
      "title": "Some values cannot be taken",
      "type": "urn:dezky:problem:validation_failed"
    }
    "#);
}

#[tokio::test]
async fn nul_is_refused_wherever_a_text_can_stand() {
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
        assert_eq!(errors(&reply), [(at.to_owned(), "nul".to_owned())]);
    }
    let query = app
        .get("/jobs?kind=a%00b")
        .by(Caller::Operator)
        .send()
        .await;
    let path = app.get("/tenants/a%00b").by(Caller::Operator).send().await;
    let user = app.user(Caller::Stranger).await.id;
    let key = app
        .patch(&format!("/users/{user}"))
        .by(Caller::Operator)
        .json(&json!({ "tenantRoles": { "a\0": "owner" } }))
        .send()
        .await;

    assert_eq!(query.summary(), "422 validation_failed");
    assert_eq!(path.summary(), "404 not_found");
    assert_eq!(key.summary(), "422 validation_failed");
}

#[tokio::test]
async fn bodies_of_other_types_and_sizes_are_refused() {
    let app = operator().await;
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
async fn unknown_and_odd_parameters_are_refused() {
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
        let reply = app.get(path).by(Caller::Operator).send().await;

        assert_eq!(reply.summary(), expected, "{path}");
    }
}

#[tokio::test]
async fn null_is_not_a_value_where_nothing_can_be_removed() {
    let app = TestApp::with_demo().await;

    for field in ["name", "plan", "domains"] {
        let body = json!({ (field): null });
        let reply = app
            .patch("/tenants/demo")
            .by(Caller::Operator)
            .json(&body)
            .send()
            .await;

        assert_eq!(reply.summary(), "400 invalid_request", "{field}");
        assert_eq!(errors(&reply)[0].0, format!("/{field}"));
    }
}

#[tokio::test]
async fn actions_take_no_body_or_an_empty_object() {
    let app = TestApp::with_demo().await;
    let suspend = async |content_type: &str, body: &str| {
        let call = app.post("/tenants/demo/suspend").by(Caller::Operator);
        call.raw(content_type, body.as_bytes().to_vec())
            .send()
            .await
            .summary()
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
async fn unknown_routes_and_methods_are_problems_too() {
    let app = TestApp::start().await;

    let route = app.get("/nowhere").send().await;
    let slash = app.get("/tenants/").send().await;
    let method = app.call(Method::PUT, "/tenants/demo").send().await;

    assert_eq!(route.summary(), "404 not_found");
    assert_eq!(slash.summary(), "404 not_found");
    assert_eq!(method.summary(), "405 method_not_allowed");
    let mut allowed: Vec<&str> = method.header("allow").unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PATCH"]);
    assert!(method.body["requestId"].is_string());
}

#[tokio::test]
async fn too_many_domains_are_refused() {
    let app = operator().await;
    let domains: Vec<String> = (0..101).map(|n| format!("d{n}.test")).collect();
    let body = |domains: &[String]| {
        json!({ "slug": "acme", "name": "Acme", "domains": domains }).to_string()
    };

    let many = post(&app, "application/json", body(&domains).as_bytes()).await;
    let most = post(&app, "application/json", body(&domains[..100]).as_bytes()).await;

    assert_eq!(
        errors(&many),
        [("/domains".to_owned(), "too_many".to_owned())]
    );
    assert_eq!(most.status, 202);
}
