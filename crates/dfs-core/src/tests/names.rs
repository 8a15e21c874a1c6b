//! Names, addresses and the text of ids.

use crate::address::{Address, AddressError};
use crate::id::{NodeId, TextError, from_hex, from_text, hex, to_text};
use crate::name::{COMPONENT_BYTES_MAX, FilePath, NameError, PATH_BYTES_MAX};

#[track_caller]
fn refused(text: &str, expected: NameError) {
    assert_eq!(FilePath::parse(text), Err(expected), "{text:?}");
}

#[test]
fn names_in_any_script_are_taken_as_given() {
    for name in [
        "a",
        "a b",
        "ünïcødé/文件.txt",
        "quote'\"&+",
        "#?%20",
        "-dash",
        "😀/x",
        "...",
        "a.",
        "Icon\r",
        "\ta\nb",
        "\x1b[31m",
        "a\u{85}\u{202e}\x7f",
    ] {
        assert_eq!(FilePath::parse(name).unwrap().as_str(), name);
    }
    assert_eq!(FilePath::parse("/a/b").unwrap().as_str(), "a/b");
    let component = "x".repeat(COMPONENT_BYTES_MAX);
    assert_eq!(FilePath::parse(&component).unwrap().as_str(), component);
    let deep = ["x"; PATH_BYTES_MAX / 2].join("/") + "y";
    assert_eq!(FilePath::parse(&deep).unwrap().as_str().len(), PATH_BYTES_MAX);
}

#[test]
fn names_that_could_lead_elsewhere_are_refused() {
    refused("", NameError::Empty);
    refused("/", NameError::Empty);
    refused("a//b", NameError::EmptyComponent);
    refused("a/", NameError::EmptyComponent);
    refused("//a", NameError::EmptyComponent);
    refused(".", NameError::Dots);
    refused("../x", NameError::Dots);
    refused("a/../b", NameError::Dots);
    refused("a/./b", NameError::Dots);
    refused("a\0b", NameError::Nul);
    refused(&"x".repeat(COMPONENT_BYTES_MAX + 1), NameError::LongComponent);
    refused(&(["x"; PATH_BYTES_MAX / 2].join("/") + "yy"), NameError::TooLong);
}

#[test]
fn addresses_have_the_forms_people_write() {
    for (text, host, port) in [
        (":3000", None, 3000),
        ("localhost:0", Some("localhost"), 0),
        ("10.0.0.1:65535", Some("10.0.0.1"), 65535),
        ("[::1]:3000", Some("::1"), 3000),
        ("my-host.example:1", Some("my-host.example"), 1),
    ] {
        let address: Address = text.parse().unwrap();
        assert_eq!((address.host.as_deref(), address.port), (host, port), "{text}");
        assert_eq!(address.to_string(), text);
    }
    for (text, expected) in [
        ("3000", AddressError::BarePort),
        ("host", AddressError::NoPort),
        ("", AddressError::NoPort),
        ("host:", AddressError::BadPort),
        ("host:65536", AddressError::BadPort),
        ("host:-1", AddressError::BadPort),
        ("::1:3000", AddressError::BadHost),
        ("ho st:3000", AddressError::BadHost),
        ("[::zz]:3000", AddressError::BadHost),
    ] {
        assert_eq!(text.parse::<Address>(), Err(expected), "{text}");
    }
}

#[test]
fn only_this_machine_is_loopback() {
    for (text, expected) in
        [(":1", true), ("localhost:1", true), ("127.9.9.9:1", true), ("[::1]:1", true)]
            .into_iter()
            .chain([("10.0.0.1:1", false), ("example:1", false)])
    {
        assert_eq!(text.parse::<Address>().unwrap().is_loopback(), expected, "{text}");
    }
}

#[test]
fn ids_survive_being_written_down() {
    let id = NodeId::new([0xab; 32]);
    let text = id.to_string();
    assert!(text.starts_with("dn1"));
    assert_eq!(text.parse(), Ok(id));
    assert_eq!(text.to_uppercase().parse(), Ok(id));
    for at in 3..text.len() {
        let mut typo = text.clone().into_bytes();
        typo[at] = if typo[at] == b'q' { b'p' } else { b'q' };
        let typo = String::from_utf8(typo).unwrap();
        assert_eq!(typo.parse::<NodeId>(), Err(TextError::Checksum), "at {at}");
    }
    assert_eq!(from_text("dfsc", &text), Err(TextError::Prefix));
    assert_eq!(from_text("dfsw", &to_text("dfsw", &[1; 32])), Ok([1; 32]));
}

#[test]
fn hex_comes_back_and_other_text_does_not() {
    assert_eq!(from_hex(&hex(&[0, 0x0f, 0xf0, 0xff])), Some([0, 0x0f, 0xf0, 0xff]));
    assert_eq!(from_hex::<2>("00f"), None);
    assert_eq!(from_hex::<2>("00fg"), None);
    assert_eq!(from_hex::<2>("é00"), None);
}
