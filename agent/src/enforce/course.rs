//! How hits on single decisions went over the last hour, for people who look later: counters of the kernel only tell sums.
//!
//! Members of lists have no course: there may be a million of them. Memory is bounded by [`MAX_COURSES`] times [`STEPS`].

use std::collections::{HashMap, VecDeque};

use weir_core::decision::Target;
use weir_core::record::TimeUs;

/// Packets are summed over this long, µs.
pub const STEP_US: u64 = 30_000_000;
/// Steps that are kept: an hour.
pub const STEPS: usize = 120;
/// Targets with a course at once; beyond these, those that were not hit for longest lose theirs.
const MAX_COURSES: usize = 4096;

/// Packets that met an entry, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HitCourse {
    /// When the first step began.
    pub start_us: TimeUs,
    /// Of each step of [`STEP_US`]; the last one may go on, and those behind it have none.
    pub packets: Vec<u64>,
}

/// Courses by target, of this run of the agent.
#[derive(Debug, Default)]
pub struct Courses(HashMap<Target, Course>);

#[derive(Debug)]
struct Course {
    /// The step of the first sum, in [`STEP_US`] since 1970.
    first: u64,
    /// Never empty. A step's sum stays at its largest value rather than to wrap around.
    packets: VecDeque<u32>,
}

impl Course {
    fn last(&self) -> u64 {
        self.first + self.packets.len() as u64 - 1
    }

    fn add(&mut self, step: u64, packets: u32) {
        if step > self.last() + STEPS as u64 {
            *self = Course { first: step, packets: VecDeque::from([0]) };
        }
        // A clock that was set back counts where it stood: time only goes on here.
        while self.last() < step {
            self.packets.push_back(0);
        }
        while self.packets.len() > STEPS {
            self.packets.pop_front();
            self.first += 1;
        }
        if let Some(last) = self.packets.back_mut() {
            *last = last.saturating_add(packets);
        }
    }
}

impl Courses {
    /// So many packets met the target's entry since they were last noted.
    pub fn note(&mut self, target: Target, now: TimeUs, packets: u64) {
        let (step, packets) = (now / STEP_US, u32::try_from(packets).unwrap_or(u32::MAX));
        if !self.0.contains_key(&target) && self.0.len() >= MAX_COURSES {
            self.make_room();
        }
        let fresh = || Course { first: step, packets: VecDeque::from([0]) };
        self.0.entry(target).or_insert_with(fresh).add(step, packets);
    }

    /// A quarter goes at once, so that this is rare where very many are hit in turns.
    fn make_room(&mut self) {
        let mut last: Vec<u64> = self.0.values().map(Course::last).collect();
        last.sort_unstable();
        let oldest = last[MAX_COURSES / 4];
        // Of those whose last step is this very one, as many as are still to go.
        let mut left = MAX_COURSES / 4 - last.partition_point(|l| *l < oldest);
        self.0.retain(|_, c| {
            let one_of_many = left > 0 && c.last() == oldest;
            left -= usize::from(one_of_many);
            let goes = one_of_many || c.last() < oldest;
            !goes
        });
    }

    /// What is within the last hour; `None`: nothing is.
    pub fn of(&self, target: Target, now: TimeUs) -> Option<HitCourse> {
        let course = self.0.get(&target)?;
        let from = (now / STEP_US + 1).saturating_sub(STEPS as u64).max(course.first);
        let kept = course.packets.iter().skip((from - course.first) as usize);
        let packets: Vec<u64> = kept.map(|p| u64::from(*p)).collect();
        let start_us = from * STEP_US;
        packets.iter().any(|p| *p > 0).then_some(HitCourse { start_us, packets })
    }

    pub fn forget(&mut self, target: Target) {
        self.0.remove(&target);
    }

    pub fn retain(&mut self, keep: impl Fn(Target) -> bool) {
        self.0.retain(|target, _| keep(*target));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: TimeUs = 1_800_000_000 * 1_000_000;

    fn target(n: u32) -> Target {
        std::net::Ipv4Addr::from(0xcb00_7100 + n).to_string().parse().unwrap()
    }

    #[test]
    fn hits_are_summed_by_step_and_forgotten_after_an_hour() {
        let mut courses = Courses::default();
        for (after_s, packets) in [(0, 3), (29, 4), (30, 5), (95, 6)] {
            courses.note(target(1), T0 + after_s * 1_000_000, packets);
        }
        let at = |s: u64| courses.of(target(1), T0 + s * 1_000_000);
        let whole = HitCourse { start_us: T0, packets: vec![7, 5, 0, 6] };
        assert_eq!((at(95), at(3599)), (Some(whole.clone()), Some(whole)));
        assert_eq!(at(3600), Some(HitCourse { start_us: T0 + STEP_US, packets: vec![5, 0, 6] }));
        assert_eq!((at(3690), courses.of(target(2), T0)), (None, None));
    }

    #[test]
    fn a_course_is_no_longer_than_an_hour_whatever_the_clock_does() {
        let mut courses = Courses::default();
        for s in (0..20_000).step_by(10) {
            courses.note(target(1), T0 + s * 1_000_000, 1);
        }
        let all = courses.of(target(1), T0 + 19_990 * 1_000_000).unwrap();
        assert_eq!((all.packets.len(), all.packets.iter().sum::<u64>()), (STEPS, 3 * (STEPS as u64 - 1) + 2));
        // Set back by a day: counted where it stood. Set forward by a year: begun anew.
        courses.note(target(1), T0 - 86_400_000_000, 9);
        assert_eq!(courses.of(target(1), T0 + 19_990 * 1_000_000).unwrap().packets.last(), Some(&11));
        let later = T0 + 31_536_000_000_000;
        courses.note(target(1), later, u64::MAX);
        courses.note(target(1), later, 1);
        let all = courses.of(target(1), later).unwrap();
        assert_eq!(all.packets, [u64::from(u32::MAX)]);
    }

    #[test]
    fn who_was_not_hit_for_longest_makes_room() {
        let mut courses = Courses::default();
        let max = MAX_COURSES as u32;
        for n in 0..max {
            courses.note(target(n), T0 + u64::from(n) * STEP_US / 64, 1);
        }
        let end = T0 + u64::from(max) * STEP_US / 64;
        courses.note(target(0), end, 1);
        courses.note(target(max), end, 1);
        assert!(courses.0.len() <= MAX_COURSES * 3 / 4 + 1, "{}", courses.0.len());
        assert!(courses.of(target(0), end).is_some() && courses.of(target(max), end).is_some());
        assert!(!courses.0.contains_key(&target(1)) && courses.0.contains_key(&target(max - 1)));
        courses.forget(target(0));
        courses.retain(|t| t == target(max));
        assert_eq!(courses.0.len(), 1);
    }
}
