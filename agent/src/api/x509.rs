//! Names and end of a certificate.
//!
//! rustls has verified the certificate, and with it its form, before anything here looks at it; still every length is checked,
//! and what is not understood gives `None`.

use rustls::pki_types::CertificateDer;

/// What a certificate says of its holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Common names, then the alternative ones (DNS names and URIs), in the order of the certificate.
    pub names: Vec<String>,
    pub units: Vec<String>,
    /// Seconds since the Unix epoch.
    pub not_before: u64,
    /// Seconds since the Unix epoch.
    pub not_after: u64,
}

const SEQUENCE: u8 = 0x30;
const OID_COMMON_NAME: &[u8] = &[0x55, 4, 3];
const OID_UNIT: &[u8] = &[0x55, 4, 11];

impl Holder {
    pub fn of(der: &CertificateDer<'_>) -> Option<Self> {
        let cert = webpki::EndEntityCert::try_from(der).ok()?;
        let mut names = Vec::new();
        let mut units = Vec::new();
        // A set of attributes for each part of the name; `subject` comes without its outer sequence.
        let mut sets = Der(cert.subject());
        while !sets.0.is_empty() {
            let mut set = Der(sets.expect(0x31)?);
            while !set.0.is_empty() {
                let mut attribute = Der(set.expect(SEQUENCE)?);
                let kind = attribute.expect(6)?;
                let (tag, value) = attribute.next()?;
                // UTF8String, PrintableString, IA5String: all of them are UTF-8.
                if !matches!(tag, 0x0c | 0x13 | 0x16) {
                    continue;
                }
                let text = std::str::from_utf8(value).ok()?.to_owned();
                match kind {
                    OID_COMMON_NAME => names.push(text),
                    OID_UNIT => units.push(text),
                    _ => {}
                }
            }
        }
        names.extend(cert.valid_dns_names().map(str::to_owned));
        names.extend(cert.valid_uri_names().map(str::to_owned));
        let [not_before, not_after] = validity(der)?;
        Some(Self { names, units, not_before, not_after })
    }

    pub fn common_name(der: &CertificateDer<'_>) -> Option<String> {
        Self::of(der)?.names.into_iter().next()
    }
}

/// From when to when, seconds since the Unix epoch.
fn validity(der: &[u8]) -> Option<[u64; 2]> {
    let mut certificate = Der(Der(der).expect(SEQUENCE)?);
    let mut fields = Der(certificate.expect(SEQUENCE)?);
    let (tag, _) = fields.next()?;
    // The version is left out in version 1.
    let before_algorithm = if tag == 0xa0 { 1 } else { 0 };
    for _ in 0..before_algorithm {
        fields.next()?;
    }
    fields.expect(SEQUENCE)?;
    fields.expect(SEQUENCE)?;
    let mut validity = Der(fields.expect(SEQUENCE)?);
    let mut next = || match validity.next()? {
        (0x17, time) => seconds(time, 2),
        (0x18, time) => seconds(time, 4),
        _ => None,
    };
    Some([next()?, next()?])
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` as seconds since the Unix epoch.
fn seconds(text: &[u8], year_digits: usize) -> Option<u64> {
    if text.len() != year_digits + 11 || text.last() != Some(&b'Z') {
        return None;
    }
    let number =
        |at: usize, len: usize| -> Option<u64> { std::str::from_utf8(text.get(at..at + len)?).ok()?.parse().ok() };
    let mut year = number(0, year_digits)?;
    if year_digits == 2 {
        // RFC 5280: 50 to 99 are of the last century.
        year += if year < 50 { 2000 } else { 1900 };
    }
    let at = |i: usize| number(year_digits + 2 * i, 2);
    let (month, day) = (u8::try_from(at(0)?).ok()?, u8::try_from(at(1)?).ok()?);
    let date =
        time::Date::from_calendar_date(i32::try_from(year).ok()?, time::Month::try_from(month).ok()?, day).ok()?;
    let clock =
        time::Time::from_hms(u8::try_from(at(2)?).ok()?, u8::try_from(at(3)?).ok()?, u8::try_from(at(4)?).ok()?);
    u64::try_from(date.with_time(clock.ok()?).assume_utc().unix_timestamp()).ok()
}

/// What is left to read.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
            _ => return None,
        };
        let value = rest.get(..len)?;
        self.0 = rest.get(len..)?;
        Some((tag, value))
    }

    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(t, _)| *t == tag).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate() -> CertificateDer<'static> {
        let mut params = rcgen::CertificateParams::new(vec!["ops.example".into(), "10.0.0.1".into()]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("spiffe://x/ops".try_into().unwrap()));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, "weir-viewer");
        params.distinguished_name.push(rcgen::DnType::CommonName, "überwacher");
        params.not_before = rcgen::date_time_ymd(2021, 2, 3);
        params.not_after = rcgen::date_time_ymd(2055, 3, 1);
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn names_units_and_end_are_those_of_the_certificate() {
        let holder = Holder::of(&certificate()).unwrap();
        assert_eq!(holder.names, ["überwacher", "ops.example", "spiffe://x/ops"]);
        assert_eq!(holder.units, ["weir-viewer"]);
        assert_eq!(holder.not_before, rcgen::date_time_ymd(2021, 2, 3).unix_timestamp() as u64);
        assert_eq!(holder.not_after, rcgen::date_time_ymd(2055, 3, 1).unix_timestamp() as u64);
    }

    #[test]
    fn a_damaged_certificate_gives_nothing_or_something_and_never_panics() {
        let good = certificate();
        for at in 0..good.len() {
            for value in [0, 0x7f, 0x80, 0x82, 0xff, good[at].wrapping_add(1)] {
                let mut bad = good.to_vec();
                bad[at] = value;
                let _ = Holder::of(&bad.into());
            }
            assert_eq!(Holder::of(&good[..at].to_vec().into()), None, "cut off after {at} bytes");
        }
    }

    #[test]
    fn times_before_and_after_2050_are_read() {
        assert_eq!(seconds(b"700101000000Z", 2), Some(0));
        assert_eq!(seconds(b"490101000000Z", 2), seconds(b"20490101000000Z", 4));
        assert_eq!(seconds(b"20261127030000Z", 4), Some(1_795_748_400));
        assert_eq!((seconds(b"261332000000Z", 2), seconds(b"2601010000Z", 2)), (None, None));
    }
}
