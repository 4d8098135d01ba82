use super::*;
use proptest::prelude::*;

const NOW: u64 = 1_800_000_000_000_000;

fn parse(text: &str) -> Parsed {
    read(text.as_bytes(), Form::Auto, NOW).unwrap()
}
fn shown(p: &Parsed) -> Vec<String> {
    let one = |e: &Entry| {
        let ttl = e.ttl_us.map_or("-".to_owned(), |t| (t / 1_000_000).to_string());
        format!("{} {ttl}{} {}", e.prefix, if e.shadow { " shadow" } else { "" }, p.reasons[usize::from(e.why)])
    };
    p.entries.iter().map(|e| one(e).trim_end().to_owned()).collect()
}

#[test]
fn plain_lists_are_read_with_comments_ranges_and_what_stands_behind() {
    let text = "\u{feff}# a list\n; another comment\n\n192.0.2.7\n10.1.0.0/16 ; SBL123\n2001:db8::/32\t# v6\n\
                198.51.100.9,4\n203.0.113.1-203.0.113.3\r\n203.0.113.8 - 203.0.113.8\n";
    let p = parse(text);
    let expected = [
        "192.0.2.7 -",
        "10.1.0.0/16 -",
        "2001:db8::/32 -",
        "198.51.100.9 -",
        "203.0.113.1 -",
        "203.0.113.2/31 -",
        "203.0.113.8 -",
    ];
    assert_eq!(shown(&p), expected);
    assert_eq!(p.bad, 0);
}

#[test]
fn bad_lines_are_counted_and_the_first_are_named_with_line_and_value() {
    let p = parse("192.0.2.1\n192.0.2.300\n192.0.2.2\nexample.org\n192.0.2.3/tcp/22\n192.0.2.4\n");
    assert_eq!((p.entries.len(), p.bad), (3, 3));
    let named: Vec<_> = p.named.iter().map(ToString::to_string).collect();
    assert_eq!(named[0], "line 2: `192.0.2.300`: is no address and no network");
    assert!(named[1].starts_with("line 4: `example.org`") && named[2].contains("weir decisions add"), "{named:?}");
}

#[test]
fn what_is_no_list_is_refused_as_a_whole() {
    let page = "<html>\n<head><title>504 Gateway Time-out</title></head>\n<body>\n</body></html>\n";
    let e = read(page.as_bytes(), Form::Auto, NOW).unwrap_err();
    assert!(e.to_string().contains("this is no list") && e.to_string().contains("line 1"), "{e}");
    for cut in ["[\"192.0.2.1\", \"192.0.2", "[{\"value\": \"192.0.2.1\"}", "{\"value\": \"192.0.2.1\"}\n{\"val"] {
        assert!(matches!(read(cut.as_bytes(), Form::Auto, NOW), Err(ReadError::Json(_))), "{cut}");
    }
    assert!(matches!(read(&b"a,b\n1,2\n"[..], Form::Csv, NOW), Err(ReadError::NoTarget)));
}

#[test]
fn csv_is_read_by_the_names_of_its_columns() {
    let text = "id,scope,value,reason,action,duration\n1,Ip,192.0.2.1,crowdsecurity/ssh-bf,ban,3h59m58.9s\n\
                2,Range,10.1.0.0/16,,ban,\n3,AS,64496,,ban,4h\n4,Ip,192.0.2.3,x,captcha,4h\n5,Ip,192.0.2.4,x,shadow,1h\n6,Ip,192.0.2.5,,ban,-1h\n";
    let p = parse(text);
    assert_eq!(shown(&p), ["192.0.2.1 14398 crowdsecurity/ssh-bf", "10.1.0.0/16 -", "192.0.2.4 3600 shadow x"]);
    assert_eq!((p.bad, p.over), (2, 1));
    assert!(p.named[0].to_string().starts_with("line 4: `64496`: its scope is AS"), "{}", p.named[0]);
    let p = parse("start_ip;end_ip;comment\n192.0.2.4;192.0.2.7;\"a; b\"\n");
    assert_eq!(shown(&p), ["192.0.2.4/30 - a; b"]);
    let p = parse("ip,expires\n192.0.2.1,2027-01-15T08:01:00Z\n192.0.2.2,2020-01-01T00:00:00Z\n");
    assert_eq!((shown(&p), p.over), (vec!["192.0.2.1 60".to_owned()], 1));
}

#[test]
fn json_is_read_as_a_list_line_by_line_and_as_crowdsec_and_weir_write_it() {
    assert_eq!(
        shown(&parse("[\"192.0.2.1\", {\"ip\": \"192.0.2.2\", \"duration\": \"1h\"}]")),
        ["192.0.2.1 -", "192.0.2.2 3600"]
    );
    assert_eq!(shown(&parse("{\"ip\": \"192.0.2.2\"}\n\n\"192.0.2.3\"\n")), ["192.0.2.2 -", "192.0.2.3 -"]);
    let cscli = r#"[{"capacity":0,"created_at":"2026-01-01T00:00:00Z","decisions":[{"duration":"3h59m","id":1,"origin":"crowdsec",
        "scenario":"crowdsecurity/ssh-bf","scope":"Ip","simulated":false,"type":"ban","value":"192.0.2.9"},{"duration":"1h","id":2,
        "origin":"cscli","scenario":"manual","scope":"Ip","simulated":true,"type":"ban","value":"192.0.2.10"}],"source":{"ip":"192.0.2.9"}}]"#;
    assert_eq!(shown(&parse(cscli)), ["192.0.2.9 14340 crowdsecurity/ssh-bf", "192.0.2.10 3600 shadow manual"]);
    assert!(parse("null\n").entries.is_empty());
    let weir = r#"{"id":7,"target":"192.0.2.0/24","action":"drop","limit":null,"direction":"both","origin":"manual","created":"2026-01-01T00:00:00Z","expires":null,"reason":"port scan"}
{"id":8,"target":"192.0.2.4","action":"limit","limit":{"unit":"packets"},"expires":"2027-01-15T09:00:00Z","reason":""}
{"id":9,"target":"192.0.2.5","action":"shadow","expires":"2027-01-15T09:00:00Z","reason":"" }"#;
    let p = parse(weir);
    assert_eq!(
        (shown(&p), p.bad),
        (vec!["192.0.2.0/24 - port scan".to_owned(), "192.0.2.5 3600 shadow".to_owned()], 1)
    );
}

proptest! {
    #[test]
    fn a_range_is_covered_by_its_prefixes_and_nothing_else_is(from in 0u32..5000, len in 0u32..5000, base in any::<u32>()) {
        let (a, b) = (base.saturating_add(from), base.saturating_add(from).saturating_add(len));
        let ip = |n: u32| std::net::Ipv4Addr::from(n).to_string();
        let all = range::prefixes(&ip(a), &ip(b)).unwrap();
        let mut at = u64::from(a);
        for p in all {
            let IpPrefix(first, size) = IpPrefix::of(p);
            prop_assert_eq!(first, at);
            at += size;
        }
        prop_assert_eq!(at, u64::from(b) + 1);
    }

    #[test]
    fn nothing_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        for (_, form) in Form::ALL {
            let _ = read(&bytes[..], form, NOW);
        }
    }
}

struct IpPrefix(u64, u64);
impl IpPrefix {
    fn of(p: Prefix) -> Self {
        let std::net::IpAddr::V4(v4) = p.addr().ip() else { panic!() };
        Self(u64::from(u32::from(v4)), 1 << (32 - p.len()))
    }
}

#[test]
fn the_widest_ranges_have_an_end() {
    assert_eq!(range::prefixes("0.0.0.0", "255.255.255.255").unwrap(), ["0.0.0.0/0".parse::<Prefix>().unwrap()]);
    assert_eq!(range::prefixes("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").unwrap()[0].to_string(), "::/0");
    assert!(range::prefixes("192.0.2.2", "192.0.2.1").is_err());
    assert!(range::prefixes("192.0.2.2", "2001:db8::1").is_err());
}
