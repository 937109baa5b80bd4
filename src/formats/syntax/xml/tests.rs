//! Events of small documents, whole and broken.

use super::super::RECORD_CAP;
use super::super::json::{DEPTH_LIMIT, Event};
use super::Xml;
use std::io::Result;

fn told(document: &[u8]) -> Result<String> {
    let mut xml = Xml::new(Box::new(document));
    let mut told = String::new();
    while let Some(event) = xml.read()? {
        match event {
            Event::Begin(_) => told.push('{'),
            Event::End(_) => told.push('}'),
            Event::Key => told.extend([xml.text(), ":"]),
            Event::Scalar => told.extend(["\"", xml.text(), "\" "]),
            Event::Null => {}
            Event::TooLong => told.push_str("long "),
            Event::Broken(_) => told.push('!'),
        }
    }
    Ok(told)
}

#[test]
fn elements_are_members_and_attributes_too() -> Result<()> {
    let document = b"\xEF\xBB\xBF<?xml version=\"1.0\"?>\n<!DOCTYPE r [<!ENTITY e \"boom\">]>\n<r><!-- <x> --><a> 1 </a><b/>\
                     <c><d k='v&quot;'/><ns:e><![CDATA[<&>]]>&amp;&#233;&e;</ns:e></c></r>";
    assert_eq!(told(document)?, "{a:\" 1 \" b:\"\" c:{d:{k:\"v\"\" }e:\"<&>&\u{e9}&e;\" }}");
    assert_eq!(told(b"<a>M\xFCller</a>")?, "\"M\u{fc}ller\" ");
    Ok(())
}

#[test]
fn what_breaks_off_says_so() -> Result<()> {
    for document in
        ["<a><b>1</b>", "<a><b>1</a>", "<a></b></a>", "<a><b c=1></b></a>", "<a><1></a>", "<a><!-- "]
    {
        assert!(told(document.as_bytes())?.ends_with('!'), "{document}");
    }
    assert!(told("<a b='1'>".repeat(100).as_bytes())?.ends_with('!'));
    let nested: Vec<String> = (0..100).map(|number| format!("<a{number}>")).collect();
    assert_eq!(told(nested.concat().as_bytes())?.matches('{').count(), DEPTH_LIMIT);
    Ok(())
}

#[test]
fn a_text_beyond_the_cap_is_passed_over() -> Result<()> {
    let mut document = b"<r><a>".to_vec();
    document.extend(std::iter::repeat_n(b'x', 3 * RECORD_CAP));
    document.extend(b"</a><b>1</b></r>");
    assert_eq!(told(&document)?, "{a:long b:\"1\" }");
    Ok(())
}
