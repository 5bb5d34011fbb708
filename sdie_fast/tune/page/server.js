// Questions to the server: JSON there; JSON, or pixels with what they are, back.

export async function ask(path, body) {
  const given = body === undefined ? {} :
    { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try {
    reply = await fetch(path, given);
  } catch {
    throw new Error("The server does not answer. Is sdie-fast tune still running?");
  }
  if (!reply.ok) throw new Error((await reply.json().catch(() => ({}))).error ?? `${reply.status}`);
  const facts = reply.headers.get("X-Facts");
  if (facts === null) return reply.json();
  const raw = await reply.arrayBuffer(), told = JSON.parse(facts);
  return { ...told, data: told.bytes === 2 ? new Uint16Array(raw) : new Uint8Array(raw) };
}
