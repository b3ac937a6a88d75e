//! Each form by itself.

use serde_json::{Value, json};

use super::*;

fn view(protocol: Protocol, rules: &str) -> View {
    let mut operation = operation("s3", "GetObject", protocol);
    operation.needs[0].resources = vec!["arn:aws:s3:::b/k".into()];
    masks(rules).agent(&operation, None).expect("a rule is about it")
}

fn body(form: &str, rules: &str) -> View {
    view(Protocol::RestXml, &format!("[[rule]]\naction = \"s3:GetObject\"\nas = \"{form}\"\n{rules}"))
}

fn text(view: &View, body: &str) -> Result<String, MaskError> {
    cut_everywhere(view, &Answer::default(), body.as_bytes()).map(|out| String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn json_keeps_its_types_and_its_form() {
    let view = body("json", "path = ['$.Body.hide', '$.Body.list[*].x', '$.Body.at[1]', '$.Body..deep']");
    let source = format!(
        "{{ \"keep\":\"{SECRET}!\",\n \"hide\" : {{\"s\":\"{SECRET}\",\"n\":-12.5e3,\"t\":true,\"f\":false,\"z\":null,\"e\":\"\",\"a\":[1,\"{SECRET}\",[]],\"o\":{{}}}}, \
         \"list\":[{{\"x\":\"{SECRET}\",\"y\":1}},{{\"x\":2}}],\"at\":[\"a\",\"b\",\"c\"],\"q\":{{\"r\":[{{\"deep\":[\"{SECRET}\"]}}]}} }}"
    );
    let out = text(&view, &source).expect("masked");
    let found: Value = serde_json::from_str(&out).expect("JSON");
    let hidden = token(SECRET);
    let number = |text: &str| key().of(text.as_bytes()).number();
    assert_eq!(
        found,
        json!({
            "keep": format!("{SECRET}!"),
            "hide": {"s": hidden, "n": number("-12.5e3"), "t": false, "f": false, "z": null, "e": "",
                "a": [number("1"), hidden, []], "o": {}},
            "list": [{"x": hidden, "y": 1}, {"x": number("2")}],
            "at": ["a", token("b"), "c"],
            "q": {"r": [{"deep": [hidden]}]},
        })
    );
    // Spaces stand where they stood.
    assert!(out.starts_with("{ \"keep\":") && out.contains("\"hide\" : {"), "{out}");
}

#[test]
fn escapes_hide_nothing_from_the_mask() {
    let view = body("json", "path = '$.Body.pass'");
    let hidden = |text: &str| format!(r#"{{"pass":"{}"}}"#, token(text));
    for (source, meant) in [
        (r#"{"pass":"a/b"}"#, "a/b"),
        (r#"{"pass":"a\/b"}"#, "a/b"),
        (r#"{"\u0070ass":"a\u002fb"}"#, "a/b"),
        (r#"{"pass":"\ud83d\ude00\n\t\"\\"}"#, "😀\n\t\"\\"),
        (r#"{"pass":"\ud83d"}"#, "\u{fffd}"),
        (r#"{"pass":"\ud83d\ud83d\ude00x"}"#, "\u{fffd}😀x"),
        (r#"{"pass":"\ud83d\n"}"#, "\u{fffd}\n"),
        (r#"{"pass":"\\"}"#, "\\"),
    ] {
        let out = text(&view, source).expect(source);
        assert_eq!(out.replace(r"\u0070", "p"), hidden(meant), "{source}");
    }
}

#[test]
fn what_is_no_json_is_an_error_wherever_it_is_cut() {
    let view = body("json", "path = '$.Body.x'");
    for source in [
        "{",
        "{\"x\"}",
        "{\"x\":}",
        "{\"x\":1,}",
        "[1,]",
        "[1 2]",
        "{\"x\":1]",
        "nul",
        "{x:1}",
        "\"a",
        "{\"x\":\"\\q\"}",
        "{\"x\":\"\\u12\"}",
        "NaN",
        "'a'",
        "\u{feff}{}",
        "{\"x\" 1}",
        "]",
        "{\"x\":tru",
        "\u{1f}8b",
        "<a/>",
    ] {
        assert_eq!(text(&view, source), Err(MaskError::Unreadable("JSON")), "{source}");
    }
    // Documents one after another, or none.
    for source in ["", " \n", "{\"x\":null}\n{\"x\":null}\n", "1 2 3", "[]{}"] {
        assert_eq!(text(&view, source).as_deref(), Ok(source));
    }
    let lines = text(&view, &format!("{{\"x\":\"{SECRET}\"}}\n{{\"x\":\"{SECRET}\"}}\n")).expect("masked");
    assert_eq!(lines, format!("{{\"x\":\"{0}\"}}\n{{\"x\":\"{0}\"}}\n", token(SECRET)));
    let deep = format!("{}1{}", "[".repeat(600), "]".repeat(600));
    assert_eq!(
        through(&view, &Answer::default(), deep.as_bytes(), 7),
        Err(MaskError::Limit("it is nested too deeply"))
    );
}

#[test]
fn patterns_look_into_texts_names_and_numbers() {
    let view = body("json", "path = '$.Body'\npatterns = ['email', 'card-number']");
    let source =
        r#"{"a":"to bob@example.com, \"x\"","bob@example.com":[4111111111111111,1234],"b":"\u0062ob@example.com"}"#;
    let bob = token("bob@example.com");
    let card = key().of(b"4111111111111111").number();
    let expected = format!(r#"{{"a":"to {bob}, \"x\"","{bob}":[{card},1234],"b":"{bob}"}}"#);
    assert_eq!(text(&view, source), Ok(expected));
}

#[test]
fn xml_keeps_its_form() {
    let view =
        body("xml", "path = ['$.Body.doc.hide', '$.Body.doc.list.item[*].x', '$.Body.doc.a.@id', '$.Body..deep']");
    let source = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c --><doc xmlns=\"urn:x\">\n <keep>{SECRET}!</keep>\n <p:hide a='{SECRET}'>\n  <s>{SECRET}</s>\n  <!-- {SECRET} --><c><![CDATA[{SECRET}]]></c><e/></p:hide>\n \
         <list><item><x>{SECRET}</x><y>1</y></item><item><x>&#104;unter2-is-a-secret</x></item></list><a id=\"{SECRET}\" n=\"1\">t</a><q><deep>x<b>y</b> </deep></q></doc>\n"
    );
    let hidden = token(SECRET);
    let expected = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c --><doc xmlns=\"urn:x\">\n <keep>{SECRET}!</keep>\n <p:hide a='{hidden}'>\n  <s>{hidden}</s>\n  <c>{hidden}</c><e/></p:hide>\n \
         <list><item><x>{hidden}</x><y>1</y></item><item><x>{hidden}</x></item></list><a id=\"{hidden}\" n=\"1\">t</a><q><deep>{}<b>{}</b> </deep></q></doc>\n",
        token("x"),
        token("y"),
    );
    assert_eq!(text(&view, &source), Ok(expected));
}

#[test]
fn what_is_no_xml_is_an_error_wherever_it_is_cut() {
    let view = body("xml", "path = '$.Body.a.b'");
    for source in [
        "x",
        "<a>",
        "<a></b>",
        "<a><b></a></b>",
        "<a/><b/>",
        "<!DOCTYPE a><a/>",
        "<a b></a>",
        "<a b=c></a>",
        "<a b=\"c></a>",
        "<a>x</a>y",
        "<a><b>&x;</b></a>",
        "<a><b>&amp</b></a>",
        "<?xml version='1.0' encoding='UTF-16'?><a/>",
        "<a><![CDATA[x</a>",
        "</a>",
        "< a></a>",
        "{}",
    ] {
        assert_eq!(text(&view, source), Err(MaskError::Unreadable("XML")), "{source}");
    }
    let patterns = body("xml", "path = '$.Body'\npatterns = ['email']");
    let source = "<a b=\"bob@example.com\">&lt;bob@example.com&gt; <![CDATA[x<y]]></a>";
    let bob = token("bob@example.com");
    assert_eq!(text(&patterns, source), Ok(format!("<a b=\"{bob}\">&lt;{bob}&gt; x&lt;y</a>")));
}

#[test]
fn cbor_keeps_its_types() {
    let view = body("cbor", "path = '$.Body.hide'");
    let value: ciborium::Value = ciborium::Value::serialized(&json!({
        "keep": SECRET.to_uppercase(),
        "hide": {"s": SECRET, "n": 7, "m": -7, "f": 1.5, "t": true, "z": null, "a": [SECRET, []], "long": "x".repeat(300)},
    }))
    .expect("a value");
    let mut source = Vec::new();
    ciborium::into_writer(&value, &mut source).expect("written");
    let out = cut_everywhere(&view, &Answer::default(), &source).expect("masked");
    let found: ciborium::Value = ciborium::from_reader(&out[..]).expect("CBOR");
    let hidden = token(SECRET);
    let number = |text: &str| key().of(text.as_bytes()).number();
    let expected = ciborium::Value::serialized(&json!({
        "keep": SECRET.to_uppercase(),
        "hide": {"s": hidden, "n": number("7"), "m": number("-7"), "f": f64::from(number("1.5")), "t": false, "z": null,
            "a": [hidden, []], "long": token(&"x".repeat(300))},
    }));
    assert_eq!(Ok(found), expected.map_err(|_| ()));
    // Of no length, in pieces, bytes, a time, a half.
    let mut source = b"\xbf\x64hi".to_vec();
    source.extend(b"de\x9f\x7f\x62ab\x61c\xff\x42\x01\x02\xc1\x1a\x68\x00\x00\x00\xf9\x3c\x00\xff\xff");
    let out = cut_everywhere(&view, &Answer::default(), &source).expect("masked");
    let found: ciborium::Value = ciborium::from_reader(&out[..]).expect("CBOR");
    let list = found.into_map().expect("a map").remove(0).1.into_array().expect("a list");
    assert_eq!(list[0].as_text(), Some(token("abc").as_str()));
    assert_eq!(list[1].as_bytes().map(|b| &b[..]), Some(key().of(&[1, 2]).text().as_bytes()));
    assert!(matches!(&list[2], ciborium::Value::Tag(1, n) if n.is_integer()), "{list:?}");
    assert_eq!(list[3].as_float(), Some(f64::from(number("1"))));
    for bad in [
        &b"\xff"[..],
        b"\x82\x01",
        b"\x01\x01",
        b"\xa1\x01",
        b"\x1c",
        b"\x7f\x42ab\xff",
        b"\xbf\x61a\xff",
        b"\xa1\xf6\x01",
        b"\x9b",
    ] {
        assert_eq!(cut_everywhere(&view, &Answer::default(), bad), Err(MaskError::Unreadable("CBOR")), "{bad:x?}");
    }
}

#[test]
fn text_is_looked_through_however_long_it_is() {
    let view = body("text", "path = '$.Body'\npatterns = ['email', 'private-key']");
    let source = "a bob@example.com\n-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\nz";
    let pem = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----";
    assert_eq!(text(&view, source), Ok(format!("a {}\n{}\nz", token("bob@example.com"), token(pem))));
    // Wherever it stands in a text of several windows, also across where one ends.
    for fill in [(256 << 10) - 40, (256 << 10) - 8, (224 << 10) - 5, (480 << 10) - 7, 1 << 20] {
        let source = format!("{} bob@example.com {}", "x".repeat(fill), "y ".repeat(200 << 10));
        let expected = source.replace("bob@example.com", &token("bob@example.com"));
        for step in [1 << 14, 65_537, source.len()] {
            let out = through(&view, &Answer::default(), source.as_bytes(), step).expect("masked");
            assert!(out == expected.as_bytes(), "{fill}, {step}");
        }
    }
    let endless = format!("-----BEGIN PRIVATE KEY-----\n{}", "A".repeat(300 << 10));
    assert!(matches!(through(&view, &Answer::default(), endless.as_bytes(), 1000), Err(MaskError::Limit(_))));
}

#[test]
fn a_body_of_no_known_form_is_not_passed() {
    let rules =
        |path: &str| view(Protocol::RestXml, &format!("[[rule]]\naction = \"s3:GetObject\"\npath = '{path}'\n"));
    let answer = |content| Answer { content_type: Some(content), ..Answer::default() };
    let source = format!("{{\"x\":\"{SECRET}\"}}");
    for content in ["application/json", "application/vnd.x+json; charset=utf-8"] {
        let out = cut_everywhere(&rules("$.Body.x"), &answer(content), source.as_bytes()).expect(content);
        assert!(!String::from_utf8_lossy(&out).contains(SECRET));
    }
    let refused = through(&rules("$.Body.x"), &answer("binary/octet-stream"), source.as_bytes(), 5);
    assert!(refused.expect_err("refused").to_string().contains("give the rule `as = \"json\"`"));
    let refused = through(&rules("$.Body.x"), &Answer::default(), source.as_bytes(), 5);
    assert!(refused.is_err());
    // Hidden whole, it need not be read.
    let out = through(&rules("$.Body"), &answer("binary/octet-stream"), source.as_bytes(), 5);
    assert_eq!(out, Ok(token(&source).into_bytes()));
    let part = Answer { partial: true, ..answer("application/json") };
    assert_eq!(through(&rules("$.Body.x"), &part, b"{}", 1), Err(MaskError::Part));
}
