use stokehold::*;
struct Sums;
impl App for Sums {
    const NAME: &'static str = "sums:Sums";
    fn init(_: &Ctx) -> Result<Self> { Ok(Sums) }
    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "add" => { let (a, b): (i64, i64) = args.parse()?; Ok(Reply::from(a + b)) }
            "echo" => { let (b,): (&[u8],) = args.parse()?; Ok(Reply::from(b)) }
            "lecho" => { let (b,): (&[u8],) = args.parse()?; Ok(ctx.lease_from(b)?.into()) }
            "pid" => Ok(Reply::from(std::process::id())),
            "panic" => panic!("ouch"),
            "spin" => loop {},
            "segv" => stokehold::internals::sys::process::segfault(),
            "exit" => std::process::exit(0),
            other => Err(Error::no_action(other)),
        }
    }
}
fn main() -> Result<()> {
    stokehold::init(|apps| { env_logger::init(); apps.add::<Sums>().map(drop) })?;
    let pool = Pool::builder().app::<Sums>().workers(2).start()?;
    let c = pool.client()?;
    println!("{:?}", c.call("sums:Sums", "add").args((2, 3)).execute()?.parse::<i64>()?);
    println!("{:?}", c.call("sums:Sums", "echo").args((&b"hello"[..],)).execute()?.as_bytes()?.len());
    let big = vec![7u8; 3_000_000];
    println!("{:?}", c.call("sums:Sums", "echo").args((&big[..],)).execute()?.as_bytes()?.len());
    let l = c.lease_from(&big)?;
    println!("{:?}", c.call("sums:Sums", "lecho").args((l,)).execute()?.as_bytes()?.len());
    for a in ["panic", "nope", "segv", "exit"] {
        println!("{a}: {:?}", c.call("sums:Sums", a).deadline_ms(2000).execute().map(drop).map_err(|e| e.to_string()));
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    println!("spin: {:?}", c.call("sums:Sums", "spin").deadline_ms(300).execute().map(drop));
    println!("unknown {:?}", c.call("x", "spin").deadline_ms(300).execute().map(drop));
    let n = 100000;
    let t = std::time::Instant::now();
    for i in 0..n { assert_eq!(c.call("sums:Sums", "add").args((i, 3)).execute()?.parse::<i64>()?, i + 3); }
    println!("{:?} a call", t.elapsed() / n as u32);
    println!("{:?}", c.worker_pids());
    pool.shutdown()
}
