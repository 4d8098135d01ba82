//! Scenes: one thing each that must hold, shown on the lab's hosts with what an earlier lab learned.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::agent::Site;
use super::report::{self, Verdict};
use super::scenes::ALL;
use super::story::Lab;
use super::{Options, plan, stop};

pub struct Scene {
    pub name: &'static str,
    /// What it shows, in a few words.
    pub about: &'static str,
    pub site: fn(Site) -> Site,
    pub play: fn(&mut Lab) -> Result<Vec<Verdict>>,
}

/// Why a scene cannot be played on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

pub fn list() -> String {
    let width = ALL.iter().map(|s| s.name.len()).max().unwrap_or_default();
    ALL.iter().map(|s| format!("{:<width$}  {}\n", s.name, s.about)).collect()
}

/// The scenes of these names, in the order of the list.
pub fn named(names: &[String]) -> Result<Vec<&'static Scene>> {
    let known = |name: &&String| *name != "all" && !ALL.iter().any(|s| s.name == name.as_str());
    if let Some(name) = names.iter().find(known) {
        let names: Vec<&str> = ALL.iter().map(|s| s.name).collect();
        bail!("there is no scene `{name}`; there are {}, and `all`", names.join(", "));
    }
    Ok(ALL.iter().filter(|s| names.iter().any(|n| n == "all" || n == s.name)).collect())
}

/// Plays scenes one after the other, each on hosts of its own.
pub fn run(options: &Options, weir: &Path, scenes: &[&Scene]) -> Result<()> {
    stop::install();
    let learned = learned(options, weir)?;
    let (mut lines, mut skips) = (Vec::new(), Vec::new());
    for scene in scenes {
        println!("\n##### Scene {}: {}", scene.name, scene.about);
        let began = Instant::now();
        let verdicts = play(scene, options, weir, &learned);
        stop::check()?;
        if let Some(why) = verdicts.as_ref().err().and_then(|e| e.downcast_ref::<Skip>()) {
            skips.push(format!("SKIP scene {}: {why}", scene.name));
            continue;
        }
        let seconds = began.elapsed().as_secs_f64();
        let result = match &verdicts {
            Ok(all) if all.is_empty() => "it showed nothing".to_owned(),
            Ok(all) => {
                println!("{}", report::summary(all));
                let bad = all.iter().filter(|v| !v.good).count();
                format!("{} points, {bad} failed, {seconds:.0} s", all.len())
            }
            Err(e) => format!("{e:#}"),
        };
        let good = verdicts.is_ok_and(|all| !all.is_empty() && all.iter().all(|v| v.good));
        lines.push(Verdict { what: scene.name.to_owned(), result, good });
    }
    println!("\n##### Scenes\n{}", report::summary(&lines));
    for skip in skips {
        println!("{skip}");
    }
    let bad = lines.iter().filter(|v| !v.good).count();
    println!("scenes: {} passed, {bad} failed", lines.len() - bad);
    if bad > 0 {
        bail!("{bad} of {} scenes failed", lines.len());
    }
    Ok(())
}

fn play(scene: &Scene, options: &Options, weir: &Path, learned: &Path) -> Result<Vec<Verdict>> {
    let site = (scene.site)(Site { learned: Some(learned.to_owned()), ..Site::learning(75) });
    let mut lab = Lab::open(Some(weir), &site)?;
    lab.load_seconds = options.load_seconds;
    let verdicts = (scene.play)(&mut lab).map(|mut verdicts| {
        verdicts.push(report::judge_clients(&lab.tally, &plan::clients(), &lab.book));
        verdicts
    });
    lab.close()?;
    verdicts
}

/// The folder with what a lab learned with this very program; learned now where there is none.
pub(super) fn learned(options: &Options, weir: &Path) -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    hasher.write(&std::fs::read(weir).with_context(|| format!("cannot read {}", weir.display()))?);
    hasher.write_u64(options.seconds);
    let dir = crate::sh::target_dir().join("lab");
    let learned = dir.join(format!("{:016x}", hasher.finish()));
    if learned.exists() {
        println!("What is normal was learned before with this program: {}", learned.display());
        return Ok(learned);
    }
    // Of other builds: nobody asks for them again.
    let _ = std::fs::remove_dir_all(&dir);
    let mut lab = Lab::open(Some(weir), &Site::learning(options.seconds))?;
    let kept = (|| {
        lab.screen.heading("Weir learns what is normal, once for all scenes");
        lab.learn(options.seconds)?;
        lab.promote()?;
        lab.wait(Duration::from_secs(1))?;
        let part = dir.join("part");
        lab.agent()?.keep_learned(&part)?;
        std::fs::rename(&part, &learned).with_context(|| format!("cannot make {}", learned.display()))
    })();
    lab.close()?;
    kept.map(|()| learned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenes_are_found_by_name_and_an_unknown_one_is_named_with_those_there_are() {
        let names = |n: &[&str]| named(&n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(names(&["all"]).unwrap().len(), ALL.len());
        assert_eq!(names(&[ALL[1].name]).unwrap()[0].name, ALL[1].name);
        let error = names(&["nothing"]).err().unwrap().to_string();
        assert!(error.contains("`nothing`") && error.contains(ALL[0].name), "{error}");
        let mut all: Vec<&str> = ALL.iter().map(|s| s.name).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), ALL.len(), "each scene has a name of its own");
        assert!(list().lines().count() == ALL.len());
    }
}
