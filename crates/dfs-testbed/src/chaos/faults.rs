//! What goes wrong in a round: drawn, done to the victims, and undone.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;

use super::rounds::Rounds;
use crate::bed::random::Random;
use crate::bed::world::World;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Kill,
    KillWhileStarting,
    Freeze,
    Stop,
    StopThenKill,
    Cut,
    CutOneWay,
    Slow,
    Reset,
    FullDisk,
}

impl Fault {
    pub(super) const ALL: [Self; 10] = [
        Self::Kill,
        Self::KillWhileStarting,
        Self::Freeze,
        Self::Stop,
        Self::StopThenKill,
        Self::Cut,
        Self::CutOneWay,
        Self::Slow,
        Self::Reset,
        Self::FullDisk,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "SIGKILL and restart",
            Self::KillWhileStarting => "SIGKILL during restart",
            Self::Freeze => "SIGSTOP and SIGCONT",
            Self::Stop => "SIGTERM and restart",
            Self::StopThenKill => "SIGTERM, then SIGKILL",
            Self::Cut => "network cut",
            Self::CutOneWay => "one-way network cut",
            Self::Slow => "slow links",
            Self::Reset => "connections reset",
            Self::FullDisk => "full disk",
        }
    }

    /// Whether it needs something between the nodes.
    pub(super) fn needs_mesh(self) -> bool {
        matches!(self, Self::Cut | Self::CutOneWay | Self::Slow | Self::Reset)
    }

    /// Does it to the world and undoes it; gives what was done, for people.
    pub(super) fn strike(self, rounds: &mut Rounds<'_>, random: &mut Random) -> Result<String> {
        let world = &mut rounds.world;
        match self {
            Self::Freeze => freeze(world, random),
            Self::Cut => cut(world, random),
            Self::CutOneWay => cut_one_way(world, random),
            Self::Slow => slow(world, random),
            Self::Reset => reset(world, random),
            Self::FullDisk => fill_disk(rounds, random),
            Self::Kill | Self::KillWhileStarting | Self::Stop | Self::StopThenKill => {
                self.restart(world, random)
            }
        }
    }

    /// Ends the victims in one way or another, and starts them again.
    fn restart(self, world: &mut World<'_>, random: &mut Random) -> Result<String> {
        let victims = draw_victims(world.nodes, random);
        let away = random.millis(0..=5_000);
        for &at in &victims {
            match self {
                Self::Stop => {
                    world.cluster.stop_one(at, STOP_MAX)?;
                }
                Self::StopThenKill => {
                    let between = random.millis(0..=100);
                    world.cluster.signal(at, Signal::TERM);
                    std::thread::sleep(between);
                    world.cluster.kill(at)?;
                }
                _ => world.cluster.kill(at)?,
            }
        }
        world.pause(away)?;
        for &at in &victims {
            let kills = if self == Self::KillWhileStarting { random.within(1..=3) } else { 0 };
            for _ in 0..kills {
                world.cluster.spawn(at)?;
                // From before the first line of `main` to well after it is ready.
                std::thread::sleep(random.millis(0..=400));
                world.cluster.kill(at)?;
            }
            let back = world.cluster.start(at);
            back.with_context(|| format!("node {} does not come back", at + 1))?;
        }
        Ok(format!("{}, away for {away:.1?}", shown(&victims)))
    }
}

/// A minority of the nodes, in random order.
fn draw_victims(nodes: usize, random: &mut Random) -> Vec<usize> {
    let mut all: Vec<usize> = (0..nodes).collect();
    random.shuffle(&mut all);
    all.truncate(random.within(1..=(nodes - 1) / 2));
    all
}

fn shown(victims: &[usize]) -> String {
    let numbers: Vec<String> = victims.iter().map(|at| (at + 1).to_string()).collect();
    format!("node {}", numbers.join(" and node "))
}

fn freeze(world: &mut World<'_>, random: &mut Random) -> Result<String> {
    let victims = draw_victims(world.nodes, random);
    let lasts = random.millis(2_000..=20_000);
    for &at in &victims {
        world.cluster.signal(at, Signal::STOP);
    }
    let waited = world.pause(lasts);
    for &at in &victims {
        world.cluster.signal(at, Signal::CONT);
    }
    waited?;
    Ok(format!("{} for {lasts:.1?}", shown(&victims)))
}

/// One node from all others, both ways.
fn cut(world: &mut World<'_>, random: &mut Random) -> Result<String> {
    let at = random.below(world.nodes);
    let (silent, lasts) = (random.coin(), random.millis(2_000..=20_000));
    let mesh = world.mesh()?;
    for (from, to) in mesh.pairs().into_iter().filter(|(from, to)| *from == at || *to == at) {
        match silent {
            true => mesh.link(from, to).cut(),
            false => mesh.link(from, to).refuse(),
        }
    }
    world.pause(lasts)?;
    world.mesh()?.heal();
    let how = if silent { "in silence" } else { "with connections refused" };
    Ok(format!("node {} for {lasts:.1?}, {how}", at + 1))
}

/// All that one node sends, or all that is sent to it.
fn cut_one_way(world: &mut World<'_>, random: &mut Random) -> Result<String> {
    let at = random.below(world.nodes);
    let (outward, lasts) = (random.coin(), random.millis(2_000..=20_000));
    let mesh = world.mesh()?;
    for (from, to) in mesh.pairs() {
        if at == if outward { from } else { to } {
            mesh.link(from, to).cut();
        }
    }
    world.pause(lasts)?;
    world.mesh()?.heal();
    let what = if outward { "from" } else { "to" };
    Ok(format!("everything {what} node {} for {lasts:.1?}", at + 1))
}

/// One link, or all links of one node.
fn slow(world: &mut World<'_>, random: &mut Random) -> Result<String> {
    let at = random.below(world.nodes);
    let other = (at + 1 + random.below(world.nodes - 1)) % world.nodes;
    let (all, delay) = (random.coin(), random.millis(50..=300));
    let lasts = random.millis(3_000..=12_000);
    let mesh = world.mesh()?;
    for (from, to) in mesh.pairs() {
        let of_node = from == at || to == at;
        if of_node && (all || from == other || to == other) {
            mesh.link(from, to).slow(delay);
        }
    }
    world.pause(lasts)?;
    world.mesh()?.heal();
    let whom = if all { "all others".to_owned() } else { format!("node {}", other + 1) };
    Ok(format!("node {} and {whom}, {delay:?} each way for {lasts:.1?}", at + 1))
}

/// All connections of one node, several times.
fn reset(world: &mut World<'_>, random: &mut Random) -> Result<String> {
    let at = random.below(world.nodes);
    let times = random.within(1..=10);
    for _ in 0..times {
        let mesh = world.mesh()?;
        for (from, to) in mesh.pairs().into_iter().filter(|(from, _)| *from == at) {
            mesh.link(from, to).reset();
        }
        world.pause(random.millis(50..=1_500))?;
    }
    Ok(format!("node {}, {times} times", at + 1))
}

/// One node's disk becomes full, by its writes or in the middle of them. The node must stay, and
/// the cluster must go on.
fn fill_disk(rounds: &mut Rounds<'_>, random: &mut Random) -> Result<String> {
    let lasts = random.millis(5_000..=12_000);
    let how = match random.coin() {
        true => fill_by_writes(&rounds.world)?,
        false => fill_in_between(&rounds.world, random)?,
    };
    rounds.world.disk()?.leave_nothing()?;
    let before = rounds.acknowledged_by_others(SMALL_NODE);
    rounds.world.pause(lasts)?;
    let writes = rounds.acknowledged_by_others(SMALL_NODE) - before;
    let ended = rounds.world.cluster.ended(SMALL_NODE)?;
    rounds.world.disk()?.give_space()?;
    let node = SMALL_NODE + 1;
    if let Some(status) = ended {
        bail!("node {node} ended with {status} when its disk was full");
    }
    ensure!(writes > 0, "while node {node} was full, the others acknowledged nothing");
    Ok(format!("node {node}, {how}; {writes} writes through others while full for {lasts:.1?}"))
}

/// The node sees the end coming, and something else takes the rest.
fn fill_by_writes(world: &World<'_>) -> Result<String> {
    world.disk()?.leave(DISK_LEFT_BYTES)?;
    for _ in 0..FILL_LOOKS {
        if world.disk()?.is_full()? {
            return Ok("filled by writes".to_owned());
        }
        world.pause(FILL_LOOK_EVERY)?;
    }
    Ok("filled by something else".to_owned())
}

/// Something else takes all space at once, again and again, so that it also happens between the
/// node's look at the disk and its write.
fn fill_in_between(world: &World<'_>, random: &mut Random) -> Result<String> {
    let times = random.within(5..=15);
    for _ in 0..times {
        world.disk()?.leave(DISK_LEFT_BYTES)?;
        world.pause(random.millis(50..=500))?;
        world.disk()?.leave_nothing()?;
        world.pause(random.millis(0..=100))?;
    }
    Ok(format!("filled {times} times in the middle of writes"))
}

/// The node whose disk can be made small: the last of the three that hold data however large the
/// cluster is.
pub(super) const SMALL_NODE: usize = 2;
/// What a graceful end may take: a promise of `dfs-node`.
const STOP_MAX: Duration = Duration::from_secs(10);
/// What writes must fill before the disk is full: a few large files.
const DISK_LEFT_BYTES: u64 = 16 << 20;
/// How long writes may take for that, in looks at the disk.
const FILL_LOOKS: usize = 300;
const FILL_LOOK_EVERY: Duration = Duration::from_millis(100);
