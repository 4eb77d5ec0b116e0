package topo

import (
	"fmt"
	"strings"
)

// Mermaid draws the topology as a flowchart of Mermaid (mermaid.js.org), which GitHub and many editors show.
//
//	flowchart TD
//	  subgraph s0["sub-topology 0"]
//	    n0["KSTREAM-SOURCE-0000000000"] --> n1[...]
//	  end
//	  t0(["orders"]) --> n0
func (t *Topology) Mermaid() string {
	var b strings.Builder
	b.WriteString("flowchart TD\n")
	topics, stores := map[string]string{}, map[string]string{}
	var outside []string
	for _, s := range t.all() {
		title := fmt.Sprintf("sub-topology %d", s.ID)
		if s.Nodes[0].Global {
			title += ", global store"
		}
		fmt.Fprintf(&b, "  subgraph s%d[\"%s\"]\n", s.ID, title)
		for _, n := range s.Nodes {
			fmt.Fprintf(&b, "    n%d[\"%s\"]\n", n.Index, escapeMermaid(n.Name))
		}
		for _, n := range s.Nodes {
			for _, c := range n.Children {
				fmt.Fprintf(&b, "    n%d --> n%d\n", n.Index, c.Index)
			}
			for _, name := range n.Stores {
				if stores[name] == "" {
					stores[name] = fmt.Sprintf("k%d", len(stores))
					fmt.Fprintf(&b, "    %s[(\"%s\")]\n", stores[name], escapeMermaid(name))
				}
				fmt.Fprintf(&b, "    n%d -.- %s\n", n.Index, stores[name])
			}
		}
		b.WriteString("  end\n")
		for _, n := range s.Nodes {
			names := n.topicNames()
			if n.Pattern != nil {
				names = []string{n.Pattern.text}
			}
			for _, topic := range names {
				id := topics[topic]
				if id == "" {
					id = fmt.Sprintf("t%d", len(topics))
					topics[topic] = id
					outside = append(outside, fmt.Sprintf("  %s([\"%s\"])\n", id, escapeMermaid(topic)))
				}
				if n.Kind == Source {
					outside = append(outside, fmt.Sprintf("  %s --> n%d\n", id, n.Index))
				} else {
					outside = append(outside, fmt.Sprintf("  n%d --> %s\n", n.Index, id))
				}
			}
		}
	}
	b.WriteString(strings.Join(outside, ""))
	return b.String()
}

func escapeMermaid(s string) string {
	return strings.NewReplacer(`"`, "#quot;", "<", "#lt;", ">", "#gt;").Replace(s)
}
