/**
 * The members of a header that is a list (RFC 9110, 5.6.1): split at the commas that stand in no quoted string. Each character is looked at once, whatever it
 * is; a quoted string that does not end takes the rest with it.
 */
export function splitList(text: string): string[] {
  const members: string[] = [];
  let from = 0;
  let quoted = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '"') quoted = !quoted;
    else if (quoted && character === "\\") i++;
    else if (!quoted && character === ",") {
      members.push(text.slice(from, i));
      from = i + 1;
    }
  }
  members.push(text.slice(from));
  return members;
}
