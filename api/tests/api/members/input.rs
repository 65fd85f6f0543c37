//! Hostile and odd input.

use super::*;

#[tokio::test]
async fn local_parts_outside_the_grammar_are_rejected() {
    let app = TestApp::with_demo().await;
    let long = "a".repeat(65);

    for (local, code) in [
        ("", "invalid_local_part"),
        (" ", "invalid_local_part"),
        (&*long, "invalid_local_part"),
        (".ada", "invalid_local_part"),
        ("ada.", "invalid_local_part"),
        ("a..b", "invalid_local_part"),
        ("\"ada\"", "invalid_local_part"),
        ("ada king", "invalid_local_part"),
        ("ada@demo.test", "invalid_local_part"),
        ("ädå", "invalid_local_part"),
        ("\u{212a}ate", "invalid_local_part"),
        ("a\u{200b}da", "invalid_local_part"),
        ("Postmaster", "reserved_local_part"),
        ("mailer-daemon", "reserved_local_part"),
    ] {
        let reply = create(&app, new(local)).await;
        assert_eq!(reply.summary(), "422 validation_failed", "{local:?}");
        assert_eq!(reply.errors(), [("/localPart", code)], "{local:?}");
    }
    assert_eq!(app.count("members").await, 0);
    assert_eq!(create(&app, new(&"a".repeat(64))).await.summary(), "202");
}

#[tokio::test]
async fn aliases_are_checked_each() {
    let app = TestApp::with_demo().await;
    let with = |aliases: Value| json!({ "localPart": "ada", "name": "A", "role": "member", "aliases": aliases });
    let many: Vec<String> = (0..51).map(|n| format!("a{n}")).collect();

    for (aliases, errors) in [
        (json!(["ada"]), vec![("/aliases/0", "own_address")]),
        (
            json!(["x", "ADA@Demo.Test"]),
            vec![("/aliases/1", "own_address")],
        ),
        (json!(["x", "X"]), vec![("/aliases/1", "duplicate")]),
        (
            json!(["x", "x@demo.test"]),
            vec![("/aliases/1", "duplicate")],
        ),
        (
            json!(["x@elsewhere.test"]),
            vec![("/aliases/0", "unknown_domain")],
        ),
        (
            json!(["a..b", "x@"]),
            vec![
                ("/aliases/0", "invalid_local_part"),
                ("/aliases/1", "empty"),
            ],
        ),
        (json!(many), vec![("/aliases", "too_many")]),
    ] {
        let reply = create(&app, with(aliases.clone())).await;
        assert_eq!(reply.summary(), "422 validation_failed", "{aliases}");
        let found: Vec<&str> = reply.errors().iter().map(|(pointer, _)| *pointer).collect();
        let expected: Vec<&str> = errors.iter().map(|(pointer, _)| *pointer).collect();
        assert_eq!(found, expected, "{aliases}");
    }
    assert_eq!(app.count("members").await, 0);
}

#[tokio::test]
async fn fields_of_a_mailbox_need_one_and_passwords_are_not_accepted() {
    let app = TestApp::with_demo().await;
    let none = json!({
        "email": "a@work.test", "name": "A", "role": "member", "mailbox": false, "aliases": ["a"],
        "mailboxQuotaBytes": 5_000_000,
    });
    let chosen =
        json!({ "localPart": "a", "name": "A", "role": "member", "password": "hunter2hunter2" });
    let small = json!({ "localPart": "a", "name": "A", "role": "member", "mailboxQuotaBytes": 0 });
    let neither = json!({ "name": "A", "role": "member" });

    assert_eq!(
        create(&app, none).await.errors(),
        [
            ("/aliases", "needs_mailbox"),
            ("/mailboxQuotaBytes", "needs_mailbox")
        ]
    );
    assert_eq!(
        create(&app, chosen).await.errors(),
        [("/password", "invalid_password")]
    );
    assert_eq!(
        create(&app, small).await.errors(),
        [("/mailboxQuotaBytes", "out_of_range")]
    );
    assert_eq!(
        create(&app, neither).await.errors(),
        [("/localPart", "missing")]
    );
}

#[tokio::test]
async fn a_name_of_120_astral_characters_is_stored_and_found() {
    let app = TestApp::with_demo().await;
    let name = "𐐀".repeat(120);
    let body = |name: &str| json!({ "localPart": "ada", "name": name, "role": "member" });

    let longer = create(&app, body(&format!("{name}𐐀"))).await;
    let reply = create(&app, body(&name)).await;
    let ada = member(&app, app::id_of(&reply.body["id"])).await;
    let renamed = app
        .owner()
        .patch(path(&ada, ""), json!({ "name": "𝒜da 株式会社" }))
        .await;
    let found = app
        .owner()
        .get(format!("{USERS}?q=%E6%A0%AA%E5%BC%8F%E4%BC%9A%E7%A4%BE"))
        .await;

    assert_eq!(longer.errors(), [("/name", "too_long")]);
    assert_eq!(reply.body["name"], json!(name));
    assert_eq!(renamed.summary(), "202");
    assert_eq!(found.items().len(), 1);
}
