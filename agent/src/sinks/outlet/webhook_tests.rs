use hyper::body::Bytes;
use hyper::header::HeaderMap;

use super::*;

fn answer(status: u16, retry_after: Option<&str>) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after {
        headers.insert(header::RETRY_AFTER, value.parse().unwrap());
    }
    Answer { status: StatusCode::from_u16(status).unwrap(), headers, body: Bytes::from_static(b"why\nnot") }
}

#[test]
fn answers_are_delivered_given_up_or_tried_again() {
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let then = |status, after| judge(&answer(status, after), now).map_err(|(_, then)| then);
    for status in [200, 201, 202, 204] {
        assert_eq!(then(status, None), Ok(()));
    }
    for status in [400, 413, 422] {
        assert_eq!(then(status, None), Err(Then::GiveUp));
    }
    for status in [301, 401, 403, 404, 408, 429, 500, 502, 503, 504] {
        assert_eq!(then(status, None), Err(Then::Retry), "{status}");
    }
    let s = Duration::from_secs;
    for (value, wait) in [
        ("7", s(7)),
        ("0", s(0)),
        ("999999999", LONGEST_WAIT),
        ("Tue, 14 Nov 2023 22:13:50 GMT", s(30)),
        ("Tue, 14 Nov 2023 22:13:00 GMT", s(0)),
    ] {
        assert_eq!(then(429, Some(value)), Err(Then::RetryAfter(wait)), "{value}");
        assert_eq!(then(503, Some(value)), Err(Then::RetryAfter(wait)), "{value}");
    }
    assert_eq!(then(503, Some("soon")), Err(Then::Retry));
    let (why, _) = judge(&answer(500, None), now).unwrap_err();
    assert_eq!(why, "it answers 500 Internal Server Error: why not");
}

#[test]
fn the_signature_is_that_of_other_implementations() {
    // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
    let expected = "v1=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03";
    assert_eq!(sign(b"key", 1_700_000_000, b"{\"a\":1}"), expected);
}
