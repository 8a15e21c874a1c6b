//! What both sides of a cut are asked for, all nodes at once.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::cuts::Cut;
use super::names::{BEFORE, Kind, Names, generation};
use crate::bed::asking::{Asker, Wrote};
use crate::bed::random::Random;

/// One command of one node.
#[derive(Debug, Clone)]
enum Job {
    /// Write or remove the name with this place in the list, as its kind says.
    Write(usize),
    /// Read a name that is stored.
    Read(usize),
    /// Read a name that never was.
    ReadNothing(String),
    /// List everything below a directory.
    List(String),
}

/// What became of the commands of one side.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    done: usize,
    refused: usize,
    undecided: usize,
}

/// What all nodes share while they work.
struct Work<'a> {
    asker: &'a Asker<'a>,
    cut: &'a Cut,
    names: &'a Names,
    mode: &'static str,
    wrote: Mutex<Vec<(usize, usize, Wrote)>>,
    counts: Mutex<[Count; 2]>,
}

/// Asks every node for everything in quorum mode, then has both sides write the same names in
/// available mode; says what it saw.
///
/// # Errors
/// The first answer that may not be.
pub(super) fn work_while_cut(
    asker: &Asker<'_>,
    cut: &Cut,
    names: &mut Names,
    random: &mut Random,
) -> Result<Vec<String>> {
    let _ = asker.requests().take_slowest();
    let by_quorum = quorum_jobs(cut, names, random);
    let available = available_jobs(names);
    let mut parts = [("quorum", by_quorum), ("available", available)];
    // Whichever comes first meets nodes that do not know of the cut yet.
    random.shuffle(&mut parts);
    let mut told = Vec::new();
    for (mode, queues) in parts {
        told.push(run(asker, cut, names, mode, queues)?);
    }
    for name in &names.all {
        name.check_writes(cut)?;
    }
    told.push(read_back(asker, cut, names)?);
    Ok(told)
}

/// For each node, what it is asked for by quorum. Races come first, so that all are in them at
/// once.
fn quorum_jobs(cut: &Cut, names: &Names, random: &mut Random) -> BTreeMap<usize, Vec<Job>> {
    let mut queues = BTreeMap::new();
    for at in cut.sides().concat() {
        let mut jobs: Vec<Job> = names.dirs.iter().cloned().map(Job::List).collect();
        jobs.push(Job::List(String::new()));
        for (place, name) in names.all.iter().enumerate() {
            match name.kind {
                Kind::Kept => jobs.push(Job::Read(place)),
                Kind::Contested | Kind::Removed if name.writers.contains(&at) => {
                    jobs.push(Job::Write(place));
                }
                _ => {}
            }
        }
        let kept = names.of(Kind::Kept).map(|name| format!("{}-not", name.path));
        jobs.extend(kept.map(Job::ReadNothing));
        random.shuffle(&mut jobs);
        let raced = |place: &usize| names.all[*place].kind == Kind::Raced;
        let races = (0..names.all.len()).filter(raced).map(Job::Write);
        queues.insert(at, races.chain(jobs).collect());
    }
    queues
}

fn available_jobs(names: &Names) -> BTreeMap<usize, Vec<Job>> {
    let mut queues: BTreeMap<usize, Vec<Job>> = BTreeMap::new();
    for (place, name) in names.all.iter().enumerate().filter(|(_, name)| name.kind == Kind::Both) {
        for at in &name.writers {
            queues.entry(*at).or_default().push(Job::Write(place));
        }
    }
    queues
}

/// Works through the queues, that of each node on a thread of its own.
fn run(
    asker: &Asker<'_>,
    cut: &Cut,
    names: &mut Names,
    mode: &'static str,
    queues: BTreeMap<usize, Vec<Job>>,
) -> Result<String> {
    let started = Instant::now();
    let work = Work { asker, cut, names, mode, wrote: Mutex::default(), counts: Mutex::default() };
    std::thread::scope(|scope| {
        let work = &work;
        let spawn = |(at, jobs): (usize, Vec<Job>)| {
            scope.spawn(move || jobs.iter().try_for_each(|job| work.do_job(at, job)))
        };
        let nodes: Vec<_> = queues.into_iter().map(spawn).collect();
        let ends = nodes.into_iter().map(|node| node.join().expect("a node's thread gives errors"));
        ends.collect::<Result<()>>()
    })?;
    let counts = *work.counts.lock().expect("no holder of this lock panics");
    let wrote = work.wrote.into_inner().expect("no holder of this lock panics");
    for (at, place, wrote) in wrote {
        names.all[place].writes.push((at, wrote));
    }
    let slowest = asker.requests().take_slowest();
    ensure!(slowest < COMMAND_MAX, "a command took {slowest:.1?}, the bound is {COMMAND_MAX:?}");
    let [fewer, more] = counts.map(|side| {
        format!("{} done, {} refused, {} try again", side.done, side.refused, side.undecided)
    });
    let took = started.elapsed();
    Ok(format!(
        "{mode} mode for {took:.1?}: smaller side {fewer}; larger side {more}; slowest command \
         {slowest:.1?}"
    ))
}

impl Work<'_> {
    fn do_job(&self, at: usize, job: &Job) -> Result<()> {
        let code = match job {
            Job::Write(place) => self.write(at, *place)?,
            Job::Read(place) => self.read(at, *place)?,
            Job::ReadNothing(path) => self.ask(at, &["cat", path], &[4, 5])?,
            Job::List(dir) => self.ask(at, &["ls", "-r", "--json", dir], &[0, 5])?,
        };
        let counts = &mut self.counts.lock().expect("no holder of this lock panics");
        let count = &mut counts[self.cut.side_of(at)];
        match code {
            5 => count.undecided += 1,
            // The condition does not hold.
            7 => count.refused += 1,
            _ => count.done += 1,
        }
        Ok(())
    }

    fn ask(&self, at: usize, args: &[&str], allowed: &[i32]) -> Result<i32> {
        let answer = self.asker.ask(at, &[args, &["--mode", self.mode]].concat())?;
        let (code, why, node, args) = (answer.code, &answer.stderr, at + 1, args.join(" "));
        ensure!(allowed.contains(&code), "'dfs {args}' on node {node}: exit {code}: {why}");
        Ok(code)
    }

    fn write(&self, at: usize, place: usize) -> Result<i32> {
        let name = &self.names.all[place];
        let mode = ["--mode", self.mode];
        let wrote = match name.kind {
            Kind::Removed => {
                let answer = self.asker.ask(at, &[&["rm", &name.path], &mode[..]].concat())?;
                Wrote { code: answer.code, version: None, stderr: answer.stderr }
            }
            Kind::Raced => {
                let options = [&["--if-absent"], &mode[..]].concat();
                self.asker.put(at, &name.path, generation(at), &options)?
            }
            _ => self.asker.put(at, &name.path, generation(at), &mode)?,
        };
        let code = wrote.code;
        self.wrote.lock().expect("no holder of this lock panics").push((at, place, wrote));
        Ok(code)
    }

    /// What was stored before the cut and is left alone is given whole or not at all.
    fn read(&self, at: usize, place: usize) -> Result<i32> {
        let path = &self.names.all[place].path;
        let answer = self.asker.ask(at, &["cat", path, "--mode", self.mode])?;
        match answer.code {
            0 if answer.stdout == self.asker.content(path, BEFORE) => Ok(0),
            0 => bail!("node {} gives other bytes for {path}", at + 1),
            5 => Ok(5),
            code => bail!("cat {path} on node {}: exit {code}: {}", at + 1, answer.stderr),
        }
    }
}

/// Reads what was written in available mode on the node that took it, which must give it, and on
/// the others of its side, which may have seen nothing of it.
fn read_back(asker: &Asker<'_>, cut: &Cut, names: &Names) -> Result<String> {
    let read = |at: usize| -> Result<[usize; 2]> {
        let mut equal = [0, 0];
        for name in names.of(Kind::Both) {
            let of_side = name.acknowledged().find(|(by, _)| cut.side_of(*by) == cut.side_of(at));
            let Some((by, wrote)) = of_side else { continue };
            let (by, path) = (*by, &name.path);
            let answer = asker.ask(at, &["cat", path, "--mode", "available"])?;
            let (code, why, node) = (answer.code, &answer.stderr, at + 1);
            let is =
                |generation| answer.is_ok() && answer.stdout == asker.content(path, generation);
            // One way, the other side's version may be here too, with or without its chunks, and
            // be the one that is shown.
            let others =
                || name.acknowledged().any(|(other, _)| *other != by && is(generation(*other)));
            let crossed = cut.is_one_way() && (code == 5 || others());
            if is(generation(by)) || by == at && crossed && gives(asker, at, path, by, wrote)? {
                equal[usize::from(by != at)] += 1;
            } else if by == at {
                bail!(
                    "node {node} took {path} in available mode and does not give it: {code} {why}"
                );
            } else {
                let is_before = name.is_old && is(BEFORE);
                ensure!(
                    is_before || crossed || [4, 5].contains(&code),
                    "node {node} gives for {path} what nobody wrote: exit {code}: {why}"
                );
            }
        }
        Ok(equal)
    };
    let sums = std::thread::scope(|scope| {
        let read = &read;
        let nodes: Vec<_> =
            cut.sides().concat().into_iter().map(|at| scope.spawn(move || read(at))).collect();
        let ends = nodes.into_iter().map(|node| node.join().expect("a node's thread gives errors"));
        ends.collect::<Result<Vec<_>>>()
    })?;
    let [own, others] = [0, 1].map(|at| sums.iter().map(|sums| sums[at]).sum::<usize>());
    let asked: usize = names.of(Kind::Both).count() * (cut.sides().concat().len() - 2);
    let slowest = asker.requests().take_slowest();
    ensure!(slowest < COMMAND_MAX, "a command took {slowest:.1?}, the bound is {COMMAND_MAX:?}");
    Ok(format!(
        "{own} writes in available mode read on the node that took them, {others} of {asked} on \
         others of its side; slowest command {slowest:.1?}"
    ))
}

/// Whether a node gives the version that it took, by its id.
fn gives(asker: &Asker<'_>, at: usize, path: &str, by: usize, wrote: &Wrote) -> Result<bool> {
    let Some(version) = &wrote.version else { return Ok(false) };
    let answer = asker.ask(at, &["cat", "--version", version, path, "--mode", "available"])?;
    Ok(answer.is_ok() && answer.stdout == asker.content(path, generation(by)))
}

/// What a command may take while the network is cut: a few questions to nodes that do not answer,
/// one after the other, with ten seconds each.
const COMMAND_MAX: Duration = Duration::from_secs(40);
