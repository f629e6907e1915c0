// What the Expo program of docs/client.md uses of react-native, whose package is too large to install for it.
declare module "react-native" {
  export const AppState: {
    currentState: string;
    addEventListener(type: "change", listener: (state: string) => void): { remove(): void };
  };
  export function Text(props: { children?: unknown }): import("react").ReactElement;
}
