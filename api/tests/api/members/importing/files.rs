//! Files of imports.

use super::*;

#[tokio::test]
async fn byte_order_marks_line_ends_delimiters_and_quotes_of_spreadsheets_are_read() {
    let app = TestApp::with_demo().await;
    let quoted = "\u{feff}\"localPart\",\"name\",\"role\"\r\n\"ada\",\"King, Ada \"\"Countess\"\"\",\"member\"\r\n\r\n,,\r\n";
    let semicolons =
        "Name;LOCALPART;Role;Aliases\r\nПётр Ильич;petr;member;p i\r\n王小明;wang;member;\r\n";
    let tabs = "localPart\tname\trole\nzoe\tZoë\tmember";

    for (file, names) in [
        (quoted, vec!["King, Ada \"Countess\""]),
        (semicolons, vec!["Пётр Ильич", "王小明"]),
        (tabs, vec!["Zoë"]),
    ] {
        let import = accepted(&app, file).await;

        let id: MemberImportId = app::id_of(&import["id"]);
        let imports = &app.state.db.member_imports;
        let stored = imports.list_rows(id, None, 0, 10).await.unwrap();
        let found: Vec<String> = stored
            .into_iter()
            .map(|row| row.member.unwrap().name)
            .collect();
        assert_eq!(found, names, "{file}");
    }
}

#[tokio::test]
async fn json_lines_are_read_as_requests_for_one_member_each() {
    let app = TestApp::with_demo().await;
    let file = "{\"localPart\":\"ada\",\"name\":\"Ada\",\"role\":\"member\",\"aliases\":[\"a.k\"]}\r\n\
        \n\
        {\"localPart\":\"bob\",\"name\":\"Bob\"}\n\
        {\"localPart\":\"cid\",\"name\":\"Cid\",\"role\":\"member\",\"nickname\":\"C\"}\n\
        not json\n\
        {\"localPart\":\"d\\u0000\",\"name\":\"\\u0000\",\"role\":\"member\"}";

    let call = app.owner().post_empty(format!("{IMPORT}?dryRun=true"));
    let reply = call.body("application/x-ndjson", file).await;

    assert_eq!(reply.body["created"], 1, "{reply:?}");
    assert_eq!(
        rows(&reply.body["rows"]),
        [
            "3 refused /role missing_field",
            "4 refused /nickname unknown_field",
            "5 refused  invalid_json",
            "6 refused /localPart invalid_local_part /name invalid_characters",
        ]
    );
}

#[tokio::test]
async fn a_line_number_is_that_of_the_row_in_the_file() {
    let app = TestApp::with_demo().await;
    let file = "localPart,name,role\r\n\r\nada,\"A\r\nB\",member\r\nbob,Bob\r\n\r\n,,boss\r\n";

    let reply = dry_run(&app, file).await;

    assert_eq!(
        rows(&reply.body["rows"]),
        [
            "3 refused /name invalid_characters",
            "5 refused  wrong_cell_count",
            "7 refused /localPart missing /name too_short /role invalid_role",
        ]
    );
}

#[tokio::test]
async fn a_file_that_is_no_table_is_refused_as_a_whole() {
    let app = TestApp::with_demo().await;
    let many = format!("localPart,name,role\n{}", "a,A,member\n".repeat(5_001));
    let cases: [(&[u8], &str); 7] = [
        (b"", "no_rows"),
        (b"\xef\xbb\xbf", "no_rows"),
        (b"localPart,name,role\n", "no_rows"),
        (b"localPart,name,password\nada,Ada,x\n", "unknown_column"),
        (b"name,role,Name\nAda,member,Ada\n", "duplicate_column"),
        (b"localPart,name,role\nada,J\xfcrgen,member\n", "not_utf8"),
        (many.as_bytes(), "too_many_rows"),
    ];

    for (file, code) in cases {
        let reply = dry_run(&app, file).await;

        assert_eq!(reply.summary(), "422 validation_failed", "{code}");
        assert_eq!(reply.errors(), [("", code)]);
    }
    let not_utf8 = dry_run(&app, b"localPart,name\nada,Ada\nj,J\xfc\n").await;
    let message = &not_utf8.body["errors"][0]["message"];
    assert!(message.as_str().unwrap().contains("Line 3"), "{message}");
}

#[tokio::test]
async fn other_media_types_encodings_and_sizes_are_refused() {
    let app = TestApp::with_demo().await;
    let with_type = |media_type: &str| app.owner().post_empty(IMPORT).body(media_type, TWO);
    let large = format!("{TWO}{}", "\n".repeat(2 * 1024 * 1024));

    let json = with_type("application/json").await;
    let zipped = with_type("text/csv")
        .header("content-encoding", "gzip")
        .await;
    let too_large = send(&app.owner(), "", large).await;
    let parameter = send(&app.owner(), "?dryRun=maybe", TWO).await;
    let accepted = with_type("Text/CSV; charset=utf-8").await;

    assert_eq!(json.summary(), "415 unsupported_media_type");
    assert_eq!(zipped.summary(), "415 unsupported_media_type");
    assert_eq!(too_large.summary(), "413 payload_too_large");
    assert!(
        too_large.body["detail"]
            .as_str()
            .unwrap()
            .contains("2048 KiB")
    );
    assert_eq!(parameter.summary(), "400 invalid_request");
    assert_eq!(accepted.summary(), "202");
}

#[tokio::test]
async fn a_file_of_5000_long_rows_is_one_import() {
    let app = TestApp::with_demo().await;
    let name = "n".repeat(120);
    let row = |n: usize| {
        format!(
            "{}{n:04},{name},member,alias-{n:04} {n:04}.alias\n",
            "l".repeat(60)
        )
    };
    let file: String = (0..5_000).map(row).collect();
    let file = format!("localPart,name,role,aliases\n{file}");

    let dry = dry_run(&app, file.clone()).await;
    let import = accepted(&app, &file).await;

    assert_eq!(dry.body["created"], 5_000, "{}", dry.body["rows"]);
    assert_eq!(
        (&import["total"], &import["pending"]),
        (&5_000.into(), &5_000.into())
    );
    assert_eq!(app.count("member_import_rows").await, 5_000);
}
