//! After a cut: all nodes agree, what was acknowledged is there, and conflicts can be settled.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::cuts::Cut;
use super::names::{Holds, Kind, Name, Names, SETTLING, generation};
use crate::bed::asking::{Asker, version_of};
use crate::bed::random::Random;
use crate::bed::world::World;

/// Checks everything that must hold once the sides see each other again; says what it saw.
///
/// # Errors
/// The first thing that does not hold.
pub(super) fn check(
    world: &mut World<'_>,
    asker: &Asker<'_>,
    cut: &Cut,
    names: &Names,
    random: &mut Random,
    fetched: &Path,
) -> Result<Vec<String>> {
    let started = Instant::now();
    let well = world.settle(HEALED_MAX)?;
    let listed = agree(world, HEALED_MAX.saturating_sub(well), |at| asker.list(at))?;
    let same = started.elapsed();
    let mut told = vec![format!(
        "every node said ok {:.1} s after the cut, and all listed the same {} names after {:.1} s",
        well.as_secs_f64(),
        listed.len(),
        same.as_secs_f64()
    )];
    for at in 0..world.nodes {
        compare_tree(asker, at, names, &listed, fetched)?;
    }
    let kept = check_acknowledged(asker, names, world.nodes, random)?;
    told.push(format!("every content is right on every node, {kept} acknowledged versions kept"));
    told.push(settle(world, asker, cut, names, random)?);
    names.remove_all(asker, random.below(world.nodes))?;
    let left = agree(world, Duration::ZERO, |at| asker.list(at))?;
    ensure!(left.is_empty(), "after everything was removed there is {left:?}");
    Ok(told)
}

/// Asks every node until all say the same, and gives that.
fn agree<T: PartialEq + std::fmt::Debug>(
    world: &World<'_>,
    limit: Duration,
    ask: impl Fn(usize) -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let mut said = (0..world.nodes).map(&ask).collect::<Result<Vec<_>>>()?;
        let Some(apart) = said.iter().position(|one| *one != said[0]) else {
            return Ok(said.swap_remove(0));
        };
        if started.elapsed() > limit {
            let (first, other) = (&said[0], &said[apart]);
            bail!("nodes 1 and {} do not agree:\n{first:?}\n{other:?}", apart + 1);
        }
        world.pause(ASK_EVERY)?;
    }
}

/// Fetches everything from one node and looks at every byte.
fn compare_tree(
    asker: &Asker<'_>,
    at: usize,
    names: &Names,
    listed: &BTreeMap<String, String>,
    fetched: &Path,
) -> Result<()> {
    let node = at + 1;
    if fetched.exists() {
        fs::remove_dir_all(fetched)?;
    }
    let to = fetched.to_str().context("a path that is UTF-8")?;
    asker.must(at, &["get", "-r", "/", to])?;
    let mut known = 0;
    for name in &names.all {
        let path = &name.path;
        let bytes = fs::read(fetched.join(path)).ok();
        known += usize::from(bytes.is_some());
        let is = |holds: &Holds| match holds {
            Holds::Nothing => bytes.is_none(),
            Holds::Content(generation) => bytes.as_ref() == Some(&asker.content(path, *generation)),
        };
        let allowed = name.allowed();
        let length = bytes.as_ref().map(Vec::len);
        ensure!(
            allowed.iter().any(is),
            "lost {path} ({:?}): node {node} gives {length:?} bytes, expected one of {allowed:?}",
            name.kind
        );
        ensure!(
            bytes.is_some() == listed.contains_key(path),
            "node {node} lists {path} or gives it, not both"
        );
    }
    ensure!(known == listed.len(), "node {node} lists {} names, {known} are known", listed.len());
    Ok(())
}

/// Every acknowledged version is shown or in the log, with its content; gives how many there are.
fn check_acknowledged(
    asker: &Asker<'_>,
    names: &Names,
    nodes: usize,
    random: &mut Random,
) -> Result<usize> {
    let mut kept = 0;
    for name in &names.all {
        let path = &name.path;
        for (by, wrote) in name.acknowledged() {
            let Some(version) = &wrote.version else { continue };
            let at = random.below(nodes);
            let log = asker.log(at, path)?;
            let node = at + 1;
            ensure!(log.contains(version), "lost {path}: node {node} does not know {version}");
            let bytes = asker.must(at, &["cat", "--version", version, path])?;
            let is_right = bytes == asker.content(path, generation(*by));
            ensure!(is_right, "node {node} gives other bytes for {version} of {path}");
            kept += 1;
        }
    }
    Ok(kept)
}

/// Names written on both sides have both versions, on every node; half are settled by bringing one
/// back, half by a new content.
fn settle(
    world: &World<'_>,
    asker: &Asker<'_>,
    cut: &Cut,
    names: &Names,
    random: &mut Random,
) -> Result<String> {
    let found = agree(world, Duration::ZERO, |at| asker.conflicts(at))?;
    for name in &names.all {
        check_conflict(name, cut.is_one_way(), found.get(&name.path))?;
    }
    let (mut restored, mut put) = (Vec::new(), Vec::new());
    for (number, (path, versions)) in found.iter().enumerate() {
        let at = random.below(world.nodes);
        if number % 2 == 0 {
            let version = versions.last().context("a conflict has versions")?;
            let said = asker.must(at, &["restore", "--json", path, "--version", version])?;
            let wanted = asker.must(at, &["cat", "--version", version, path])?;
            restored.push((path, version_of(&said)?, wanted));
        } else {
            let version = asker.must_put(at, path, SETTLING)?;
            put.push((path, version, asker.content(path, SETTLING)));
        }
    }
    for at in 0..world.nodes {
        let left = asker.conflicts(at)?;
        ensure!(left.is_empty(), "node {} still has conflicts: {left:?}", at + 1);
    }
    for (path, version, wanted) in restored.iter().chain(&put) {
        let at = random.below(world.nodes);
        let (node, log) = (at + 1, asker.log(at, path)?);
        ensure!(log.first() == Some(version), "node {node} does not show {version} of {path}");
        let lost = found[*path].iter().find(|version| !log.contains(version));
        ensure!(lost.is_none(), "node {node} has forgotten {lost:?} of {path}");
        let is_right = asker.must(at, &["cat", path])? == *wanted;
        ensure!(is_right, "node {node} gives other bytes for {path} than it was settled with");
    }
    Ok(format!(
        "{} conflicts, the same on every node: {} settled by restore, {} by put; none is left, and \
         logs list all versions",
        found.len(),
        restored.len(),
        put.len()
    ))
}

fn check_conflict(name: &Name, is_one_way: bool, found: Option<&Vec<String>>) -> Result<()> {
    let path = &name.path;
    if name.kind != Kind::Both {
        let is_fine = found.is_none() || name.may_conflict();
        ensure!(is_fine, "{path} ({:?}) has several versions: {found:?}", name.kind);
        return Ok(());
    }
    let mut wrote: Vec<&String> =
        name.acknowledged().filter_map(|(_, wrote)| wrote.version.as_ref()).collect();
    wrote.sort_unstable();
    let mut found: Vec<&String> = found.into_iter().flatten().collect();
    found.sort_unstable();
    // One way, a side may have seen what the other wrote, and replaced it.
    let is_fine = wrote == found || is_one_way && found.is_empty();
    ensure!(is_fine, "{path} was written as {wrote:?} and is in conflict as {found:?}");
    Ok(())
}

/// From the end of a cut until every node says that all is well and lists the same. What a peer
/// that seems to be behind a slow line may be bringing is waited for up to a minute.
const HEALED_MAX: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(250);
