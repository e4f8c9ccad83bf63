//! CPU time of process trees and of the whole machine.

use crate::json::Object;
use crate::sys;
use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// A process whose whole tree is measured.
pub struct Watch {
    name: String,
    pid: i32,
}

impl Watch {
    /// From `NAME=PID`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=');
        let (name, pid) = parts.ok_or_else(|| format!("not NAME=PID: {text}"))?;
        Ok(Self {
            name: name.to_owned(),
            pid: pid.parse().map_err(|_| format!("not a pid: {pid}"))?,
        })
    }
}

/// What had been used at one moment.
pub struct Sample {
    at: Instant,
    own: Duration,
    trees: Vec<Duration>,
    machine: Duration,
}

impl Sample {
    pub fn now(watches: &[Watch]) -> Self {
        let all = if watches.is_empty() {
            HashMap::new()
        } else {
            processes()
        };
        Self {
            trees: watches.iter().map(|watch| tree(watch.pid, &all)).collect(),
            own: sys::process_time(std::process::id() as i32),
            machine: machine(),
            at: Instant::now(),
        }
    }

    /// The seconds between this sample and a later one.
    pub fn until(&self, later: &Self, watches: &[Watch]) -> Object {
        let seconds = |from: Duration, to: Duration| {
            let seconds = to.saturating_sub(from).as_secs_f64();
            format!("{seconds:.6}")
        };
        let object = Object::default()
            .with("wall", (later.at - self.at).as_secs_f64())
            .with("client", seconds(self.own, later.own))
            .with("machine", seconds(self.machine, later.machine));
        let trees = self.trees.iter().zip(&later.trees);
        trees
            .zip(watches)
            .fold(object, |object, ((from, to), watch)| {
                object.with(&watch.name, seconds(*from, *to))
            })
    }
}

/// What /proc tells of a process.
struct Process {
    parent: i32,
    /// The time of its children that have ended, which no clock of a process counts.
    reaped: Duration,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Behind the name, which may hold anything.
        let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
        let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            reaped: sys::tick() * (ticks(13)? + ticks(14)?),
        })
    }
}

fn processes() -> HashMap<i32, Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, Process::read(pid)?)))
        .collect()
}

/// The time of a process and of all that descend from it.
fn tree(root: i32, all: &HashMap<i32, Process>) -> Duration {
    let descends = |pid: i32| {
        let mut up = pid;
        while up != root && up > 1 {
            up = all.get(&up).map_or(0, |process| process.parent);
        }
        up == root
    };
    let members = all.iter().filter(|(pid, _)| descends(**pid));
    members
        .map(|(pid, process)| sys::process_time(*pid) + process.reaped)
        .sum()
}

/// The time that all processors together were busy, interrupts included.
fn machine() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<u32> = line
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    const USER_NICE_SYSTEM_IRQ_SOFTIRQ: [usize; 5] = [0, 1, 2, 5, 6];
    let busy = USER_NICE_SYSTEM_IRQ_SOFTIRQ.map(|index| ticks.get(index).copied().unwrap_or(0));
    busy.into_iter().map(|ticks| sys::tick() * ticks).sum()
}
