//! Tunnels that are opened, used once and closed, over and over.

use crate::client::{CHUNK, Conn, Pool, TICK, Target};
use crate::histogram::Histogram;
use crate::json::Object;
use crate::pingpong::{PingPong, Pong};
use crate::sys;
use crate::window::Window;
use crate::ws::{self, Sender};
use std::io;
use std::time::{Duration, Instant};

/// A handshake that has taken as long is a fault.
const STUCK: Duration = Duration::from_secs(5);
/// After so many faults nothing is left to be measured.
const HOPELESS: u64 = 100_000;

#[derive(Clone, Copy)]
enum Stage {
    Upgrade,
    Echo,
    Close,
}

/// What an event has led to.
enum Shake {
    Waiting,
    /// The first message has come back.
    Served,
    /// The closing handshake is over, and the connection with it.
    Ended,
}

/// `slots` at a time: connect, upgrade, one echo, closing handshake, and again.
pub fn run(target: &Target, slots: usize, size: usize) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut load = Load {
        target,
        pool: Pool::new(slots)?,
        stages: vec![Stage::Upgrade; slots],
        pingpong: PingPong::new(slots, size),
    };
    let mut events = sys::no_events();
    let mut histogram = Histogram::default();
    let mut swept = Instant::now();
    let mut window = Window::new(target);
    for index in 0..slots {
        load.pool.start(target, index)?;
    }
    while !window.is_over() && load.pool.faults.total() < HOPELESS {
        let count = load.pool.wait(&mut events, TICK)?;
        window.step(histogram.total());
        for event in &events[..count] {
            let index = event.u64 as usize;
            let Some(conn) = &mut load.pool.conns[index] else {
                continue;
            };
            let stage = &mut load.stages[index];
            match shake(stage, &mut load.pingpong, index, conn, &mut buffer) {
                Ok(Shake::Waiting) => {}
                Ok(Shake::Served) => {
                    if window.is_open() {
                        histogram.record(conn.started.elapsed());
                    }
                }
                Ok(Shake::Ended) => load.restart(index),
                Err(error) => {
                    load.pool.faults.add(error);
                    load.restart(index);
                }
            }
        }
        if swept.elapsed() > TICK {
            swept = Instant::now();
            load.sweep();
        }
    }
    let result = Object::default()
        .with("units", histogram.total())
        .with("rate", histogram.total() as f64 / window.seconds())
        .latency(&histogram)
        .with("cpu", window.cpu())
        .with("faults", load.pool.faults.json());
    println!("{result}");
    Ok(())
}

struct Load<'a> {
    target: &'a Target,
    pool: Pool,
    stages: Vec<Stage>,
    pingpong: PingPong,
}

impl Load<'_> {
    fn restart(&mut self, index: usize) {
        self.pool.conns[index] = None;
        self.stages[index] = Stage::Upgrade;
        if let Err(error) = self.pool.start(self.target, index) {
            self.pool.faults.add(error);
        }
    }

    /// Starts again what stands still, or could not be started.
    fn sweep(&mut self) {
        for index in 0..self.stages.len() {
            match &self.pool.conns[index] {
                Some(conn) if conn.started.elapsed() < STUCK => continue,
                Some(_) => self.pool.faults.add("stuck"),
                None => {}
            }
            self.restart(index);
        }
    }
}

fn shake(
    stage: &mut Stage,
    pingpong: &mut PingPong,
    index: usize,
    conn: &mut Conn,
    buffer: &mut [u8],
) -> io::Result<Shake> {
    match stage {
        Stage::Upgrade => {
            if conn.upgrade(buffer)? {
                pingpong.send(index, conn)?;
                *stage = Stage::Echo;
            }
            Ok(Shake::Waiting)
        }
        Stage::Echo => match pingpong.receive(index, conn, buffer)? {
            Pong::Waiting => Ok(Shake::Waiting),
            Pong::Complete(_) => {
                ws::put_header(&mut conn.out, ws::CLOSE, 2, Sender::Client);
                conn.out.extend_from_slice(&1000_u16.to_be_bytes());
                conn.send_out()?;
                *stage = Stage::Close;
                Ok(Shake::Served)
            }
        },
        Stage::Close => loop {
            match conn.read(buffer) {
                // How a connection ends that both sides are done with is the proxy's choice.
                Ok(Some(0)) | Err(_) => {
                    conn.transport.close_notify();
                    return Ok(Shake::Ended);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(Shake::Waiting),
            }
        },
    }
}
