// 60 deliveries, each right after a refused body by the same agent: prints how many failed.
const [url, token, event, size] = process.argv.slice(2);
const http = require("http");
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });

const post = (token, body) => new Promise((resolve) => {
  const headers = { "X-LOX24-Token": token, "Content-Type": "application/json", "Content-Length": body.length };
  const request = http.request(url, { method: "POST", agent, headers }, (response) => {
    response.resume().on("end", () => resolve(response.statusCode)).on("error", resolve);
  });
  request.on("error", resolve).end(body);
});

(async () => {
  let failed = 0;
  for (let i = 0; i < 60; i++) {
    await post("guess", Buffer.alloc(+size, " "));
    failed += (await post(token, require("fs").readFileSync(event))) !== 200;
  }
  console.log(failed);
})();
