//! The list of people: members, and people known by a claim.

use super::*;

#[tokio::test]
async fn members_and_people_known_by_claims_are_one_paged_list() {
    let app = TestApp::with_demo().await;
    for local in ["ada", "bob", "cyd"] {
        created(&app, local).await;
    }
    provisioned(&app, "dan").await;

    let mut seen: Vec<(String, bool)> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = app.owner().get(format!("{USERS}?limit=2{cursor}")).await;
        assert_eq!(page.summary(), "200", "{page:?}");
        assert!(page.items().len() <= 2);
        seen.extend(page.items().iter().map(|item| {
            (
                item["email"].as_str().unwrap().to_owned(),
                item["managed"] == true,
            )
        }));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }

    let expected = [
        ("ada@demo.test", true),
        ("bob@demo.test", true),
        ("cyd@demo.test", true),
        ("dan@demo.test", true),
        ("member@demo.test", false),
        ("owner@demo.test", false),
    ];
    assert_eq!(
        seen,
        expected.map(|(email, managed)| (email.to_owned(), managed))
    );
}

#[tokio::test]
async fn the_search_finds_words_of_names_and_addresses() {
    let app = TestApp::with_demo().await;
    let ada = json!({ "localPart": "ada", "name": "Ada Lovelace", "role": "member", "aliases": ["countess"] });
    create(&app, ada).await;
    create(
        &app,
        json!({ "localPart": "bob", "name": "Bob King", "role": "member" }),
    )
    .await;
    let find = async |q: &str| {
        let found = app.owner().get(format!("{USERS}?q={q}")).await;
        assert_eq!(found.summary(), "200", "{found:?}");
        let emails = found.texts("/email").into_iter().map(str::to_owned);
        emails.collect::<Vec<_>>()
    };

    assert_eq!(find("LOVELACE").await, ["ada@demo.test"]);
    assert_eq!(find("countess").await, ["ada@demo.test"]);
    assert_eq!(find("bob%20king").await, ["bob@demo.test"]);
    assert_eq!(find("ada%20king").await, [""; 0]);
    assert_eq!(find("demo%20owner").await, ["owner@demo.test"]);
    let no_word = app.owner().get(format!("{USERS}?q=.*")).await;
    assert_eq!(no_word.summary(), "422 validation_failed");
    assert_eq!(find("(%24where").await, [""; 0]);
    let other_q = app.owner().get(format!("{USERS}?limit=1&q=demo")).await;
    let cursor = other_q.body["nextCursor"].as_str().unwrap().to_owned();
    let mixed = app.owner().get(format!("{USERS}?cursor={cursor}")).await;
    assert_eq!(mixed.summary(), "400 invalid_cursor");
}

#[tokio::test]
async fn a_member_is_found_by_the_id_of_the_user_too() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let user = ada.user_id.unwrap();

    let by_user = app.owner().get(format!("{USERS}/{user}")).await;
    let by_member = app.owner().get(path(&ada, "")).await;
    let suspended = app
        .owner()
        .post_empty(format!("{USERS}/{user}/suspend"))
        .await;

    assert_eq!(by_user.body, by_member.body);
    assert_eq!(by_user.body["id"], json!(ada.id));
    assert_eq!(suspended.summary(), "202");
}
