//! The healthy part of a world: front ends, services behind them, their stores.

use super::program::{Call, Operation, Service, Statement, Step, Store, Target, Time, When, us};
use super::{Entry, World};
use crate::rng::Rng;

const FRONT_ENDS: [&str; 5] = ["gateway", "web", "storefront", "mobile-bff", "api"];
const SERVICES: [&str; 26] = [
    "cart",
    "catalog",
    "orders",
    "payment",
    "shipping",
    "inventory",
    "pricing",
    "search",
    "reviews",
    "users",
    "auth",
    "sessions",
    "media",
    "ads",
    "billing",
    "tax",
    "fraud",
    "loyalty",
    "recommend",
    "notify",
    "geo",
    "currency",
    "stock",
    "ledger",
    "booking",
    "profile",
];
const NOUNS: [&str; 72] = [
    "articles",
    "offers",
    "coupons",
    "baskets",
    "parcels",
    "tickets",
    "rates",
    "seats",
    "rooms",
    "flights",
    "photos",
    "comments",
    "wishes",
    "brands",
    "vendors",
    "returns",
    "refunds",
    "invoices",
    "drafts",
    "badges",
    "streams",
    "albums",
    "songs",
    "authors",
    "books",
    "pages",
    "topics",
    "threads",
    "posts",
    "likes",
    "friends",
    "groups",
    "events",
    "venues",
    "menus",
    "dishes",
    "tables",
    "drivers",
    "rides",
    "routes",
    "stops",
    "zones",
    "meters",
    "readings",
    "alarms",
    "sensors",
    "devices",
    "firmwares",
    "licenses",
    "seals",
    "audits",
    "claims",
    "policies",
    "quotes",
    "loans",
    "cards",
    "wallets",
    "transfers",
    "payees",
    "budgets",
    "goals",
    "funds",
    "trades",
    "positions",
    "markets",
    "symbols",
    "feeds",
    "plans",
    "courses",
    "lessons",
    "grades",
    "schools",
];

/// Names that are not taken yet.
pub struct Names {
    services: Vec<&'static str>,
    nouns: Vec<&'static str>,
    number: usize,
}

impl Names {
    pub fn new(world: &World, rng: &mut Rng) -> Self {
        let free = |names: &[&'static str], taken: &dyn Fn(&str) -> bool| -> Vec<&'static str> {
            names.iter().copied().filter(|name| !taken(name)).collect()
        };
        let mut services = free(&SERVICES, &|name| world.services.iter().any(|service| service.name == name));
        let mut nouns = free(&NOUNS, &|name| {
            let is_used = |operation: &Operation| operation.route.contains(name);
            world.operations.iter().any(is_used) || format!("{:?}", world.operations).contains(&format!("\"{name}\""))
        });
        rng.shuffle(&mut services);
        rng.shuffle(&mut nouns);
        Self { services, nouns, number: 0 }
    }

    pub fn service(&mut self) -> String {
        match self.services.pop() {
            Some(name) => name.to_owned(),
            None => {
                self.number += 1;
                format!("{}-worker", letters(self.number))
            }
        }
    }

    pub fn noun(&mut self) -> String {
        match self.nouns.pop() {
            Some(name) => name.to_owned(),
            None => {
                self.number += 1;
                format!("{}things", letters(self.number))
            }
        }
    }
}

/// A number as letters: digits would be folded away.
fn letters(mut number: usize) -> String {
    let mut text = String::from("x");
    while number > 0 {
        text.push(char::from(b'a' + (number % 26) as u8));
        number /= 26;
    }
    text
}

pub fn service(world: &mut World, name: String, rng: &mut Rng) -> usize {
    let dirt = world.spec.dirt;
    let service = Service {
        name,
        convention: dirt.convention(rng),
        uses_rpc: rng.chance(0.35),
        store: *rng.pick(&Store::SQL),
        has_literals: rng.chance(0.4),
        has_raw_names: dirt.has_raw_names(rng),
        has_client_spans: rng.chance(0.9),
        pods: rng.between(1, 4),
    };
    world.services.push(service);
    world.services.len() - 1
}

pub fn operation(world: &mut World, service: usize, method: &'static str, noun: &str, steps: Vec<Step>) -> usize {
    let route = if method == "GET" { format!("/{noun}/{{id}}") } else { format!("/{noun}") };
    world.operations.push(Operation { service, method, route, steps });
    world.operations.len() - 1
}

pub fn call_to(target: Target, time: Time) -> Call {
    Call { target, time, wire: us(400.0), fails: When::Never, is_expected: false, is_swallowed: false, has_rows: false }
}

pub fn call(operation: usize) -> Step {
    Step::Call(call_to(Target::Operation(operation), us(0.0)))
}

pub fn store_call(store: Store, statement: Statement, table: &str, time: Time) -> Call {
    call_to(Target::Store { store, statement, table: table.to_owned() }, time)
}

pub fn query(store: Store, statement: Statement, table: &str, time: Time) -> Step {
    Step::Call(store_call(store, statement, table, time))
}

/// A front end's page that asks what is given.
pub fn entry(
    world: &mut World,
    front: usize,
    names: &mut Names,
    weight: u64,
    steps: Vec<Step>,
    rng: &mut Rng,
) -> usize {
    let method = if rng.chance(0.8) { "GET" } else { "POST" };
    let mut all = vec![Step::Work(us(rng.between(500, 2_000) as f64))];
    all.extend(steps);
    all.push(Step::Work(us(rng.between(300, 1_500) as f64)));
    let operation = operation(world, front, method, &names.noun(), all);
    world.entries.push(Entry { operation, weight });
    operation
}

pub fn front_ends(world: &World) -> Vec<usize> {
    let is_front = |place: &usize| FRONT_ENDS.contains(&world.services[*place].name.as_str());
    (0..world.services.len()).filter(is_front).collect()
}

/// An operation with a query or two, as most are.
pub fn plain(world: &mut World, service: usize, names: &mut Names, rng: &mut Rng) -> usize {
    let store = world.services[service].store;
    let noun = names.noun();
    let time = |rng: &mut Rng, low, high| us(rng.between(low, high) as f64);
    let mut steps = vec![Step::Work(time(rng, 300, 1_500))];
    if rng.chance(0.4) {
        // Read through a cache.
        steps.push(query(Store::Redis, Statement::ById, &noun, us(400.0)));
        let miss = vec![
            query(store, Statement::ById, &noun, time(rng, 2_000, 9_000)),
            query(Store::Redis, Statement::Insert, &noun, us(400.0)),
        ];
        steps.push(Step::If(When::Chance(0.4), miss));
    }
    let list = query(store, Statement::List, &noun, time(rng, 3_000, 12_000));
    steps.push(match rng.chance(0.3) {
        true => Step::Span("Repository.load".to_owned(), vec![list]),
        false => list,
    });
    if rng.chance(0.3) {
        steps.push(query(store, Statement::Insert, &names.noun(), time(rng, 2_000, 6_000)));
    }
    steps.push(Step::Work(time(rng, 300, 2_000)));
    let method = if rng.chance(0.8) { "GET" } else { "POST" };
    operation(world, service, method, &noun, steps)
}

pub fn build(world: &mut World, rng: &mut Rng) {
    let mut names = Names::new(world, rng);
    let mut fronts: Vec<&str> = FRONT_ENDS.to_vec();
    rng.shuffle(&mut fronts);
    for name in &fronts[..rng.between(1, 2) as usize] {
        let place = service(world, (*name).to_owned(), rng);
        world.services[place].uses_rpc = false;
    }
    let fronts = front_ends(world);
    let behind: Vec<usize> = (0..rng.between(4, 8)).map(|_| service(world, names.service(), rng)).collect();
    for place in 0..rng.between(4, 9) {
        let first = plain(world, behind[place as usize % behind.len()], &mut names, rng);
        let mut steps = vec![call(first)];
        if rng.chance(0.4) {
            let second = plain(world, *rng.pick(&behind), &mut names, rng);
            steps.push(call(second));
        }
        if rng.chance(0.2) {
            steps.push(Step::Call(call_to(
                Target::Queue { topic: format!("{}-changed", names.noun()), consumer: None },
                us(600.0),
            )));
        }
        let front = *rng.pick(&fronts);
        entry(world, front, &mut names, 4, steps, rng);
    }
}
