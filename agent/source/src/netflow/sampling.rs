//! Packet sampling: what exporters say of it, in headers, options and records.

use std::collections::HashMap;

use super::bytes::uint;
use super::field::Field;

/// Counts are multiplied by `num / den`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    num: u64,
    den: u64,
}

impl Rate {
    pub const ALL: Rate = Rate { num: 1, den: 1 };
    /// Coarser sampling than this says nothing any more; a larger claim is a mistake, or made up.
    const MAX: u64 = 1 << 24;

    /// `den` of `num` packets are looked at. `None` where that is no rate.
    fn new(num: u64, den: u64) -> Option<Rate> {
        let sound = den > 0 && num >= den && num / den <= Self::MAX && num <= u64::from(u32::MAX);
        sound.then_some(Rate { num, den })
    }

    pub fn one_in_n(n: u64) -> Option<Rate> {
        Self::new(n, 1)
    }

    pub fn scale(self, count: u64) -> u64 {
        if self.num == self.den {
            return count;
        }
        let scaled = u128::from(count) * u128::from(self.num) / u128::from(self.den.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// Rounded to whole packets.
    pub fn one_in(self) -> u32 {
        let den = self.den.max(1);
        u32::try_from((self.num + den / 2) / den).unwrap_or(u32::MAX).max(1)
    }
}

/// The fields of one record that speak of sampling.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SamplerFields {
    pub id: Option<u64>,
    interval: Option<u64>,
    packet_interval: Option<u64>,
    packet_space: Option<u64>,
    size: Option<u64>,
    population: Option<u64>,
    probability: Option<f64>,
}

impl SamplerFields {
    pub fn set(&mut self, field: Field, bytes: &[u8]) {
        let slot = match field {
            Field::SamplerId => &mut self.id,
            Field::SamplingInterval => &mut self.interval,
            Field::SamplingPacketInterval => &mut self.packet_interval,
            Field::SamplingPacketSpace => &mut self.packet_space,
            Field::SamplingSize => &mut self.size,
            Field::SamplingPopulation => &mut self.population,
            Field::SamplingProbability => {
                self.probability = match *bytes {
                    [a, b, c, d] => Some(f64::from(f32::from_be_bytes([a, b, c, d]))),
                    _ => bytes.try_into().ok().map(f64::from_be_bytes),
                };
                return;
            }
            _ => return,
        };
        *slot = uint(bytes);
    }

    /// The rate that the fields give. RFC 5477, section 8: of interval + space packets, interval are taken; of the
    /// population, size; or each with a probability. The older single interval means one packet in so many; 0 means none
    /// is left out.
    pub fn rate(&self) -> Option<Rate> {
        if let Some(taken) = self.packet_interval {
            return Rate::new(taken.checked_add(self.packet_space.unwrap_or(0))?, taken);
        }
        if let (Some(size), Some(population)) = (self.size, self.population) {
            return Rate::new(population, size);
        }
        if let Some(p) = self.probability {
            return (p > 0.0 && p <= 1.0).then(|| Rate::one_in_n((1.0 / p).round() as u64)).flatten();
        }
        Rate::one_in_n(self.interval?.max(1))
    }
}

/// The samplers of one observation domain.
#[derive(Debug, Default)]
pub(super) struct Samplers {
    /// Of the whole domain.
    default: Option<Rate>,
    by_id: HashMap<u64, Rate>,
}

/// Samplers kept of one domain.
pub(super) const MAX_SAMPLERS: usize = 256;

/// What a record's counts are to be multiplied by.
pub(super) enum Sampled {
    Known(Rate),
    /// The record names a sampler that no options record has described.
    Unknown,
}

impl Samplers {
    /// Takes an options record. Whether it was new and took room.
    pub fn learn(&mut self, fields: &SamplerFields) -> bool {
        let Some(rate) = fields.rate() else { return false };
        match fields.id {
            None => {
                self.default = Some(rate);
                false
            }
            Some(id) if self.by_id.len() < MAX_SAMPLERS || self.by_id.contains_key(&id) => {
                self.by_id.insert(id, rate).is_none()
            }
            Some(_) => false,
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// A record's own word goes before its sampler's, and that before the domain's. Sampler 0 is none, unless described.
    pub fn of(&self, fields: &SamplerFields) -> Sampled {
        if let Some(rate) = fields.rate() {
            return Sampled::Known(rate);
        }
        let domain = self.default.unwrap_or(Rate::ALL);
        match fields.id {
            None => Sampled::Known(domain),
            Some(id) => match self.by_id.get(&id) {
                Some(&rate) => Sampled::Known(rate),
                None if id == 0 || self.default.is_some() => Sampled::Known(domain),
                None => Sampled::Unknown,
            },
        }
    }
}
